"""Float weights times tokens in bfloat16: pairs of columns, float32 sums.

A packed bfloat16 matrix already lies as the tiles want it: two columns a lane,
16 rows across the lanes, pair after pair. It is multiplied where it is, without
a panel. Other float weights are rounded to a panel of the same form.

A result starts at zero and takes the pairs in order, so it does not depend on
how tokens, rows or columns are grouped.
"""

from formats.bf16 import BF16
from formats.format import WeightFormat
from formats.matrix import PACKED, Matrix
from formats.rows import Bytes, LANES, Vector, Words
from formats.tile import TILE_COLUMNS, Sink
from ops.bfloat16 import halves_bytes, pair
from ops.pairs import dot_pairs
from ops.prefetcher import Bytes as Memory, Prefetcher
from ops.tiles import (
    FLOAT_TOKENS,
    GROUP_ROWS,
    VECTORS,
    load_results,
    store_results,
)
from runtime.views import BytePtr, F32Ptr, round_up

comptime PANEL_COLUMNS = 384
"""Columns that are multiplied with all tokens before the next: 24 KB with 32
rows."""

comptime PANEL_BYTES = 2 * GROUP_ROWS * PANEL_COLUMNS

comptime TOKENS = FLOAT_TOKENS
"""Tokens in a full tile."""

comptime BLOCK_TOKENS = 240
"""Tokens that meet all rows of a stretch before the next: their activations
and the stretch's weights stay in the second-level cache."""

comptime STEP_PAIRS = TILE_COLUMNS // 2


struct PairSink(Sink):
    """Rounds the columns of a float tile and writes them in pairs."""

    var to: BytePtr
    var even: Vector

    @always_inline
    def __init__(out self, to: BytePtr):
        self.to = to
        self.even = Vector(0)

    @always_inline
    def values[tile: Int, group: Int](mut self, values: Bytes):
        pass

    @always_inline
    def scale[tile: Int, half: Int](mut self, scale: Vector):
        pass

    @always_inline
    def min[tile: Int, half: Int](mut self, least: Vector):
        pass

    @always_inline
    def column[index: Int](mut self, weights: Vector):
        comptime if index % 2 == 0:
            self.even = weights
        else:
            self.to.unsafe_bitcast[UInt32]().unsafe_store[alignment=64](
                LANES * (index // 2), pair(self.even, weights)
            )


@fieldwise_init
struct Panel(TrivialRegisterPassable):
    """Pairs of columns of a group of rows: 64 bytes for each pair of 16 rows."""

    var at: BytePtr
    var vector_bytes: Int
    """Between the vectors of 16 rows."""
    var n_pairs: Int
    """A multiple of STEP_PAIRS."""


@always_inline
def unpack_pairs[
    F: WeightFormat
](
    weights: Matrix,
    row: Int,
    column: Int,
    n_columns: Int,
    scratch: BytePtr,
    mut fetch: Prefetcher,
) -> Panel:
    """Round a stretch of columns of a group of rows to a panel in `scratch`."""
    comptime step_bytes = TILE_COLUMNS * F.BLOCK_BYTES
    var panel = Panel(
        scratch,
        PANEL_BYTES // VECTORS,
        round_up(n_columns, TILE_COLUMNS) // 2,
    )
    var whole = n_columns // TILE_COLUMNS * TILE_COLUMNS
    comptime for r in range(VECTORS):
        var first = row + LANES * r
        var to = scratch.unsafe_offset(r * panel.vector_bytes)
        if weights.layout == PACKED:
            # A group beyond the last row is not there: the last again.
            first = min(first, (weights.rows() - 1) // LANES * LANES)
            var source = weights.packed[F](first, column)
            for c in range(0, whole, TILE_COLUMNS):
                fetch.step(LANES * step_bytes)
                var sink = PairSink(to.unsafe_offset(2 * LANES * c))
                F.unpack(source, sink)
        else:
            first = min(first, weights.rows() - 1)
            var source = weights.stored[F](first, column)
            for c in range(0, whole, TILE_COLUMNS):
                fetch.step(LANES * step_bytes)
                var sink = PairSink(to.unsafe_offset(2 * LANES * c))
                F.unpack(source, sink)
                source.move_to(source.base.unsafe_offset(step_bytes))
            if whole < n_columns:
                var left = (n_columns - whole) * F.BLOCK_BYTES
                var spare = scratch.unsafe_offset(PANEL_BYTES)
                var end = source.copy_end(left, spare)
                var sink = PairSink(to.unsafe_offset(2 * LANES * whole))
                F.unpack(end, sink)
    return panel


@always_inline
def packed_pairs(
    weights: Matrix, row: Int, column: Int, n_columns: Int
) -> Panel:
    """A stretch of columns of a group of rows, where a packed matrix has it."""
    var vector_bytes = weights.group_bytes[BF16]()
    if row + LANES >= weights.rows():
        vector_bytes = 0  # there is no second group: the first again
    return Panel(
        weights.packed[BF16](row, column).vectors, vector_bytes, n_columns // 2
    )


@fieldwise_init
struct Place(TrivialRegisterPassable):
    """What a panel is multiplied with, and where the results go."""

    var x: BytePtr
    """Its columns of the first token's row."""
    var x_stride: Int
    var n_tokens: Int
    var y: F32Ptr
    var y_stride: Int
    var n_rows: Int
    """Rows that there are, of the group and beyond."""
    var fresh: Bool
    """Whether the panel's columns are the first."""


@always_inline
def bf16_tile[
    tokens: Int, fetches: Bool
](panel: Panel, place: Place, token: Int, mut fetch: Prefetcher):
    """A panel times the `tokens` tokens from `token` on.

    The first tile of a panel `fetches`: it reads weights from memory.
    """
    var y = place.y.unsafe_offset(token * place.y_stride)
    var x = place.x.unsafe_offset(token * place.x_stride)
    var acc = load_results[tokens](y, place.y_stride, place.n_rows, place.fresh)
    var w = panel.at
    for _ in range(0, panel.n_pairs, STEP_PAIRS):
        comptime if fetches:
            fetch.step(4 * LANES * VECTORS * STEP_PAIRS)
        for _ in range(STEP_PAIRS):
            var rows = Array[Words, VECTORS](fill=Words(0))
            comptime for r in range(VECTORS):
                rows[r] = (
                    w.unsafe_offset(r * panel.vector_bytes)
                    .unsafe_bitcast[UInt32]()
                    .unsafe_load[width=LANES, alignment=64]()
                )
            comptime for t in range(tokens):
                var two = Words(
                    x.unsafe_offset(t * place.x_stride).unsafe_bitcast[
                        UInt32
                    ]()[]
                )
                comptime for r in range(VECTORS):
                    acc[VECTORS * t + r] = dot_pairs(
                        acc[VECTORS * t + r], rows[r], two
                    )
            w = w.unsafe_offset(4 * LANES)
            x = x.unsafe_offset(4)
    store_results[tokens](acc, y, place.y_stride, place.n_rows)


@no_inline
def multiply_pairs[
    fetches: Bool
](panel: Panel, place: Place, mut fetch: Prefetcher):
    """A panel times all tokens."""
    var token = 0
    comptime if fetches:
        if place.n_tokens >= TOKENS:
            bf16_tile[TOKENS, True](panel, place, 0, fetch)
            token = TOKENS
    while token + TOKENS <= place.n_tokens:
        bf16_tile[TOKENS, False](panel, place, token, fetch)
        token += TOKENS
    comptime for rest in range(1, TOKENS):
        if place.n_tokens - token == rest:
            if fetches and token == 0:
                bf16_tile[rest, fetches](panel, place, token, fetch)
            else:
                bf16_tile[rest, False](panel, place, token, fetch)
            return


@no_inline
def multiply_group_pairs[
    F: WeightFormat
](
    weights: Matrix,
    row: Int,
    x: BytePtr,
    n_tokens: Int,
    y: F32Ptr,
    y_stride: Int,
    scratch: BytePtr,
    mut fetch: Prefetcher,
):
    """All columns of the group of rows that begins at `row`."""
    comptime is_pairs = F.ID == BF16.ID
    var columns = weights.columns()
    var size = PANEL_COLUMNS
    var in_place = is_pairs and weights.layout == PACKED
    if in_place and n_tokens <= TOKENS:
        size = columns  # each weight is read once: no need to keep it near
    for column in range(0, columns, size):
        var n = min(size, columns - column)
        var place = Place(
            x.unsafe_offset(2 * column),
            halves_bytes(columns),
            n_tokens,
            y.unsafe_offset(row),
            y_stride,
            weights.rows() - row,
            column == 0,
        )
        comptime if is_pairs:
            if in_place:
                multiply_pairs[True](
                    packed_pairs(weights, row, column, n), place, fetch
                )
                continue
        var panel = unpack_pairs[F](weights, row, column, n, scratch, fetch)
        multiply_pairs[False](panel, place, fetch)


def multiply_bfloat16[
    F: WeightFormat
](
    weights: Matrix,
    first: Int,
    end: Int,
    x: BytePtr,
    n_tokens: Int,
    y: F32Ptr,
    y_stride: Int,
    scratch: BytePtr,
    mut fetch: Prefetcher,
):
    """Rows `first` to `end` - 1 times all tokens, BLOCK_TOKENS at a time.

    Args:
        weights: In a float format.
        first: A multiple of GROUP_ROWS.
        end: The same, or the number of rows.
        x: Rows of bfloat16, halves_bytes(n_columns) each.
        n_tokens: Rows of x, and of y.
        y: The first token's results.
        y_stride: Floats between two tokens' results.
        scratch: This thread's, `ops.matmul.SCRATCH_BYTES`.
        fetch: Fetches the weights that come next.
    """
    var x_stride = halves_bytes(weights.columns())
    var spent = Prefetcher(Memory(x, 0))
    for token in range(0, n_tokens, BLOCK_TOKENS):
        if token == BLOCK_TOKENS:
            swap(fetch, spent)  # the weights have been read: they are near
        for row in range(first, end, GROUP_ROWS):
            multiply_group_pairs[F](
                weights,
                row,
                x.unsafe_offset(token * x_stride),
                min(BLOCK_TOKENS, n_tokens - token),
                y.unsafe_offset(token * y_stride),
                y_stride,
                scratch,
                fetch,
            )
    if n_tokens > BLOCK_TOKENS:
        swap(fetch, spent)
