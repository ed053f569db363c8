"""Stored weights times many tokens: prefill, and with one token decode.

A thread takes a group of rows, unpacks a panel of it (a stretch of columns that
stays in the first-level cache) and multiplies that with every token before it
unpacks the next stretch. Meanwhile it fetches the weights of its next group.
"""

from std.sys import PrefetchOptions, prefetch

from formats import ALL_FORMATS
from formats.format import WeightFormat
from formats.matrix import Matrix
from formats.rows import LANES, Rows
from formats.tile import (
    FLOAT_TILE_BYTES,
    QUANTISED_TILE_BYTES,
    TILE_COLUMNS,
    tile_to_float,
)
from ops.quantize import X_BLOCK_BYTES, quantized_bytes
from ops.tiles import (
    FLOAT_TOKENS,
    GROUP_ROWS,
    INT8_TOKENS,
    VECTORS,
    float_tile,
    int8_tile,
)
from runtime.threads import TeamPtr
from runtime.views import CACHE_LINE, BytePtr, F32Ptr, round_up

comptime INT8_PANEL_COLUMNS = 768
"""Columns of a panel of quantised tiles: 36 KB with 32 rows."""

comptime FLOAT_PANEL_COLUMNS = 256
"""Columns of a panel of float tiles: 32 KB with 32 rows."""

comptime PANEL_BYTES = VECTORS * max(
    INT8_PANEL_COLUMNS // TILE_COLUMNS * QUANTISED_TILE_BYTES,
    FLOAT_PANEL_COLUMNS // TILE_COLUMNS * FLOAT_TILE_BYTES,
)

comptime SCRATCH_BYTES = PANEL_BYTES + 8 * VECTORS * QUANTISED_TILE_BYTES
"""Memory of a thread's own: a panel, and tiles on their way to floats."""


@fieldwise_init
struct Activations(TrivialRegisterPassable):
    """The right side of a product: the same numbers in two forms."""

    var values: F32Ptr
    """[n_tokens, n_columns]."""
    var blocks: BytePtr
    """The same as int8 blocks; only read for quantised weights."""
    var n_tokens: Int


@fieldwise_init
struct Product(ImplicitlyCopyable):
    """`y[n_tokens, n_rows] = x . weights^T`, rows of y `y_stride` apart."""

    var weights: Matrix
    var y: F32Ptr
    var y_stride: Int

    @always_inline
    def n_groups(self) -> Int:
        return (self.weights.rows() + GROUP_ROWS - 1) // GROUP_ROWS


struct Prefetcher(TrivialRegisterPassable):
    """Fetches a stretch of memory to the second-level cache, bit by bit."""

    var at: BytePtr
    var n_lines: Int
    var per_step: Int

    @always_inline
    def __init__(out self, at: BytePtr, n_bytes: Int, n_steps: Int):
        self.at = at
        self.n_lines = (n_bytes + CACHE_LINE - 1) // CACHE_LINE
        self.per_step = (self.n_lines + n_steps - 1) // max(n_steps, 1)

    @always_inline
    def step(mut self):
        for i in range(min(self.per_step, self.n_lines)):
            prefetch[PrefetchOptions().for_read().medium_locality()](
                self.at.unsafe_offset(CACHE_LINE * i)
            )
        self.at = self.at.unsafe_offset(CACHE_LINE * self.per_step)
        self.n_lines -= self.per_step


@always_inline
def int8_tokens[
    F: WeightFormat, tokens: Int
](
    product: Product,
    x: Activations,
    row: Int,
    first: Int,
    n_columns: Int,
    panel: BytePtr,
    mut token: Int,
):
    """Full tiles of `tokens` tokens from `token` on, while there are enough."""
    var x_stride = quantized_bytes(product.weights.columns())
    while token + tokens <= x.n_tokens:
        int8_tile[F.KIND, tokens](
            panel,
            x.blocks.unsafe_offset(
                token * x_stride + first // TILE_COLUMNS * X_BLOCK_BYTES
            ),
            x_stride,
            n_columns // TILE_COLUMNS,
            Int32(F.ZERO),
            product.y.unsafe_offset(token * product.y_stride + row),
            product.y_stride,
            product.weights.rows() - row,
            first == 0,
        )
        token += tokens


@always_inline
def float_tokens[
    tokens: Int
](
    product: Product,
    x: Activations,
    row: Int,
    first: Int,
    n_columns: Int,
    panel: BytePtr,
    mut token: Int,
):
    """The same in float32."""
    var x_stride = product.weights.columns()
    while token + tokens <= x.n_tokens:
        float_tile[tokens](
            panel,
            x.values.unsafe_offset(token * x_stride + first),
            x_stride,
            n_columns,
            product.y.unsafe_offset(token * product.y_stride + row),
            product.y_stride,
            product.weights.rows() - row,
            first == 0,
        )
        token += tokens


@always_inline
def unpack_float[
    F: WeightFormat
](rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, spare: BytePtr):
    """Float tiles of a block, `VECTORS` tiles apart, from any format."""
    comptime if F.KIND.is_float:
        F.unpack(rows, byte, n_columns, tile, 0)
    else:
        F.unpack(rows, byte, n_columns, spare, QUANTISED_TILE_BYTES)
        for i in range(F.BLOCK_WEIGHTS // TILE_COLUMNS):
            tile_to_float[F.KIND, F.ZERO](
                spare.unsafe_offset(QUANTISED_TILE_BYTES * i),
                tile.unsafe_offset(VECTORS * FLOAT_TILE_BYTES * i),
            )


def multiply_group[
    F: WeightFormat, exact: Bool
](
    product: Product,
    x: Activations,
    row: Int,
    scratch: BytePtr,
    next: Prefetcher,
):
    """All columns of the group of rows that begins at `row`.

    `exact` multiplies in float32 whatever the format is.
    """
    comptime in_float = exact or F.KIND.is_float
    comptime panel_columns = (
        FLOAT_PANEL_COLUMNS if in_float else INT8_PANEL_COLUMNS
    )
    comptime step_columns = max(F.BLOCK_WEIGHTS, TILE_COLUMNS)
    comptime step_bytes = step_columns // F.BLOCK_WEIGHTS * F.BLOCK_BYTES
    comptime tile_bytes = FLOAT_TILE_BYTES if in_float else QUANTISED_TILE_BYTES
    var fetch = next
    var columns = product.weights.columns()
    var stride = product.weights.row_bytes[F]()
    var spare = scratch.unsafe_offset(PANEL_BYTES)
    for first in range(0, columns, panel_columns):
        var n = min(panel_columns, columns - first)
        comptime for r in range(VECTORS):
            var top = min(row + LANES * r, product.weights.rows() - 1)
            var rows = Rows(
                product.weights.row[F](top),
                stride,
                product.weights.rows() - top,
            )
            for column in range(0, n, step_columns):
                var tile = scratch.unsafe_offset(
                    (column // TILE_COLUMNS * VECTORS + r) * tile_bytes
                )
                var byte = (first + column) // step_columns * step_bytes
                fetch.step()
                comptime if in_float:
                    unpack_float[F](rows, byte, n - column, tile, spare)
                else:
                    F.unpack(rows, byte, n - column, tile, VECTORS * tile_bytes)
        var token = 0
        comptime if in_float:
            float_tokens[FLOAT_TOKENS](
                product, x, row, first, n, scratch, token
            )
            float_tokens[4](product, x, row, first, n, scratch, token)
            float_tokens[1](product, x, row, first, n, scratch, token)
        else:
            int8_tokens[F, INT8_TOKENS](
                product, x, row, first, n, scratch, token
            )
            int8_tokens[F, 2](product, x, row, first, n, scratch, token)
            int8_tokens[F, 1](product, x, row, first, n, scratch, token)


@always_inline
def group_of[
    n: Int
](products: Array[Product, n], index: Int) -> Tuple[Int, Int]:
    """Which product, and which of its rows, piece of work `index` is."""
    var left = index
    for i in range(n):
        var groups = products[i].n_groups()
        if left < groups:
            return (i, left * GROUP_ROWS)
        left -= groups
    return (n, 0)


@always_inline
def run_group[
    exact: Bool
](
    product: Product,
    x: Activations,
    row: Int,
    scratch: BytePtr,
    next: Product,
    next_row: Int,
):
    """Multiply a group in its format, fetching the next group meanwhile."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if product.weights.format == F.ID:
            comptime step = max(F.BLOCK_WEIGHTS, TILE_COLUMNS)
            var steps = VECTORS * (
                round_up(product.weights.columns(), step) // step
            )
            multiply_group[F, exact](
                product, x, row, scratch, fetch_group(next, next_row, steps)
            )
            return


@always_inline
def fetch_group(product: Product, row: Int, n_steps: Int) -> Prefetcher:
    """A prefetcher of the group of rows that begins at `row`."""
    var rows = min(GROUP_ROWS, product.weights.rows() - row)
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if product.weights.format == F.ID:
            return Prefetcher(
                product.weights.row[F](row),
                rows * product.weights.row_bytes[F](),
                n_steps,
            )
    return Prefetcher(product.weights.data.unsafe_value(), 0, 1)


def share_products[
    n: Int
](
    team: TeamPtr,
    products: Array[Product, n],
    x: Activations,
    exact: Bool,
    scratch: BytePtr,
):
    """This thread's part of `n` products with the same activations.

    Threads take groups of rows as they come; a barrier has to follow.
    """
    var current = group_of[n](products, team[].take())
    while current[0] < n:
        var next = group_of[n](products, team[].take())
        # After the last group there is nothing to fetch: its own rows again.
        var ahead = next if next[0] < n else current
        if exact:
            run_group[True](
                products[current[0]],
                x,
                current[1],
                scratch,
                products[ahead[0]],
                ahead[1],
            )
        else:
            run_group[False](
                products[current[0]],
                x,
                current[1],
                scratch,
                products[ahead[0]],
                ahead[1],
            )
        current = next
