"""Register tiles: 16 or 32 rows of weights times a few tokens.

The arithmetic of a product is fixed here, once, for prefill and decode alike:
a result starts at zero and takes the columns in order, a block of 32 (or its
halves) at a time with an exact integer dot product, or a column at a time in
float32. So no result depends on how tokens or rows are grouped.
"""

from std.memory import bitcast
from std.sys import CompilationTarget

from formats.rows import Bytes, LANES, Vector
from formats.tile import (
    FLOAT_TILE_BYTES,
    QUANTISED_TILE_BYTES,
    TILE_COLUMNS,
    Kind,
    load_min,
    load_scale,
)
from ops.dots import Sums, dot4
from ops.quantize import X_BLOCK_BYTES, X_VALUES
from runtime.views import F32, I8, I32, F32Ptr

comptime MANY_REGISTERS = CompilationTarget.has_avx512f()
"""32 registers of 16 lanes; AVX2 has 16 of 8 lanes, NEON 32 of 4."""

comptime VECTORS = 2 if MANY_REGISTERS else 1
"""Vectors of 16 rows in a tile."""

comptime GROUP_ROWS = VECTORS * LANES
"""Rows that are unpacked and multiplied together."""

comptime INT8_TOKENS = 6 if MANY_REGISTERS else 3
"""Tokens in a full tile of integer dot products."""

comptime FLOAT_TOKENS = 12 if MANY_REGISTERS else 6
"""Tokens in a full tile of float32 products."""

comptime Accumulators[tokens: Int] = Array[Vector, VECTORS * tokens]


@always_inline
def load_results[
    tokens: Int
](y: F32Ptr, y_stride: Int, n_rows: Int, fresh: Bool) -> Accumulators[tokens]:
    """What the columns so far gave: `y`, or zeros in a fresh tile."""
    var acc = Accumulators[tokens](fill=Vector(0))
    if fresh:
        return acc^
    comptime for t in range(tokens):
        comptime for r in range(VECTORS):
            var at = y.unsafe_offset(t * y_stride + LANES * r)
            if n_rows >= LANES * (r + 1):
                acc[VECTORS * t + r] = at.unsafe_load[width=LANES]()
            else:
                for i in range(n_rows - LANES * r):
                    acc[VECTORS * t + r][i] = at[unsafe_offset=i]
    return acc^


@always_inline
def store_vector(at: F32Ptr, x: Vector, n_rows: Int):
    """Write the results of the rows that there are, at most 16."""
    if n_rows >= LANES:
        at.unsafe_store(0, x)
    else:
        for i in range(n_rows):
            at[unsafe_offset=i] = x[i]


@always_inline
def store_results[
    tokens: Int
](acc: Accumulators[tokens], y: F32Ptr, y_stride: Int, n_rows: Int):
    """Write the first `n_rows` results of each token."""
    comptime for t in range(tokens):
        comptime for r in range(VECTORS):
            store_vector(
                y.unsafe_offset(t * y_stride + LANES * r),
                acc[VECTORS * t + r],
                n_rows - LANES * r,
            )


@always_inline
def int8_part[
    kind: Kind, tokens: Int, half: Int, n_groups: Int
](
    tile: Pointer[UInt8, _],
    x: Pointer[UInt8, _],
    x_stride: Int,
    zero: Int32,
    mut acc: Accumulators[tokens],
):
    """Add the columns of `n_groups` groups that share a scale."""
    var sums = Array[Sums, VECTORS * tokens](fill=Sums(0))
    comptime for t in range(tokens):
        var totals = x.unsafe_offset(t * x_stride).unsafe_bitcast[Int16]()
        var total: Int32
        comptime if kind.halves:
            total = totals[unsafe_offset=6 + half].cast[I32]()
        else:
            total = (
                totals[unsafe_offset=6].cast[I32]()
                + totals[unsafe_offset=7].cast[I32]()
            )
        comptime for r in range(VECTORS):
            sums[VECTORS * t + r] = Sums(-zero * total)
    comptime for g in range(n_groups):
        comptime group = 4 * half + g
        var w = Array[Bytes, VECTORS](fill=Bytes(0))
        comptime for r in range(VECTORS):
            w[r] = tile.unsafe_load[width=4 * LANES, alignment=64](
                QUANTISED_TILE_BYTES * r + 64 * group
            )
        comptime for t in range(tokens):
            var four = bitcast[I8, 4 * LANES](
                Sums(
                    x.unsafe_offset(
                        t * x_stride + X_VALUES + 4 * group
                    ).unsafe_bitcast[Int32]()[]
                )
            )
            comptime for r in range(VECTORS):
                sums[VECTORS * t + r] = dot4[kind.is_wide](
                    sums[VECTORS * t + r], w[r], four
                )
    comptime for t in range(tokens):
        var head = x.unsafe_offset(t * x_stride).unsafe_bitcast[Float32]()
        var x_scale = head[unsafe_offset=0]
        comptime for r in range(VECTORS):
            var at = tile.unsafe_offset(QUANTISED_TILE_BYTES * r)
            var scale = load_scale[half](at) * x_scale
            acc[VECTORS * t + r] = (
                sums[VECTORS * t + r]
                .cast[F32]()
                .fma(scale, acc[VECTORS * t + r])
            )
            comptime if kind.has_min:
                var total: Float32
                comptime if kind.halves:
                    total = head[unsafe_offset=1 + half]
                else:
                    total = head[unsafe_offset=1] + head[unsafe_offset=2]
                acc[VECTORS * t + r] = load_min[half](at).fma(
                    Vector(total), acc[VECTORS * t + r]
                )


@always_inline
def int8_tile[
    kind: Kind, tokens: Int
](
    panel: Pointer[UInt8, _],
    x: Pointer[UInt8, _],
    x_stride: Int,
    n_blocks: Int,
    zero: Int32,
    y: F32Ptr,
    y_stride: Int,
    n_rows: Int,
    fresh: Bool,
):
    """A panel of `n_blocks` tiles (of each vector) times `tokens` tokens."""
    var acc = load_results[tokens](y, y_stride, n_rows, fresh)
    for b in range(n_blocks):
        var tile = panel.unsafe_offset(b * VECTORS * QUANTISED_TILE_BYTES)
        var block = x.unsafe_offset(b * X_BLOCK_BYTES)
        comptime if kind.halves:
            int8_part[kind, tokens, 0, 4](tile, block, x_stride, zero, acc)
            int8_part[kind, tokens, 1, 4](tile, block, x_stride, zero, acc)
        else:
            int8_part[kind, tokens, 0, 8](tile, block, x_stride, zero, acc)
    store_results[tokens](acc, y, y_stride, n_rows)


@always_inline
def float_tile[
    tokens: Int
](
    panel: Pointer[UInt8, _],
    x: Pointer[Float32, _],
    x_stride: Int,
    n_columns: Int,
    y: F32Ptr,
    y_stride: Int,
    n_rows: Int,
    fresh: Bool,
):
    """A panel of `n_columns` columns times `tokens` tokens in float32."""
    var acc = load_results[tokens](y, y_stride, n_rows, fresh)
    for first in range(0, n_columns, TILE_COLUMNS):
        var tile = floats_of(
            panel, first // TILE_COLUMNS * VECTORS * FLOAT_TILE_BYTES
        )
        for c in range(min(TILE_COLUMNS, n_columns - first)):
            var w = Array[Vector, VECTORS](fill=Vector(0))
            comptime for r in range(VECTORS):
                w[r] = tile.unsafe_load[width=LANES, alignment=64](
                    FLOAT_TILE_BYTES // 4 * r + LANES * c
                )
            comptime for t in range(tokens):
                var value = Vector(x[unsafe_offset=t * x_stride + first + c])
                comptime for r in range(VECTORS):
                    acc[VECTORS * t + r] = w[r].fma(value, acc[VECTORS * t + r])
    store_results[tokens](acc, y, y_stride, n_rows)


@always_inline
def floats_of(
    panel: Pointer[UInt8, _], byte: Int
) -> Pointer[Float32, panel.origin]:
    return panel.unsafe_offset(byte).unsafe_bitcast[Float32]()
