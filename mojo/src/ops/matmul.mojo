"""Stored weights times many tokens: prefill, and with one token decode.

A thread takes a stretch of rows and goes through it in groups of 16 or 32. It
unpacks a panel of a group (columns that stay in the first-level cache) and
multiplies that with every token before it unpacks the next. All the while it
fetches the weights that it will read some tens of KB later.
"""

from formats import ALL_FORMATS
from formats.format import WeightFormat
from formats.matrix import PACKED, STORED, Matrix, step_bytes, step_columns
from formats.planes import PLANES, PlaneRows, group_at, upper_bytes
from formats.q8_0 import Q8_0
from formats.rows import LANES, Source, Vector
from formats.tile import (
    FLOAT_TILE_BYTES,
    QUANTISED_TILE_BYTES,
    TILE_COLUMNS,
    Kind,
    TileSink,
    tile_to_float,
)
from ops.bf16_tiles import multiply_bfloat16
from ops.matvec import dot_block
from ops.prefetcher import Bytes, Prefetcher
from ops.quantize import X_BLOCK_BYTES, quantized_bytes
from ops.tiles import (
    FLOAT_TOKENS,
    GROUP_ROWS,
    INT8_TOKENS,
    VECTORS,
    float_tile,
    int8_tile,
    store_vector,
)
from runtime.threads import TeamPtr
from runtime.views import BytePtr, F32Ptr

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
struct Activations(ImplicitlyCopyable):
    """The right side of a product: the same numbers in up to three forms."""

    var values: F32Ptr
    """[n_tokens, n_columns]."""
    var blocks: BytePtr
    """The same as int8 blocks; only read for quantised weights."""
    var halves: Optional[BytePtr]
    """The same as rows of bfloat16, if that is how float weights are multiplied
    and not in float32; only read for those."""
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


@fieldwise_init
struct Part(ImplicitlyCopyable):
    """A stretch of columns of a group of rows of a product."""

    var product: Product
    var row: Int
    var column: Int
    var n_columns: Int

    @always_inline
    def n_rows(self) -> Int:
        """Rows that there are, of the group and beyond."""
        return self.product.weights.rows() - self.row

    @always_inline
    def y(self, token: Int) -> F32Ptr:
        return self.product.y.unsafe_offset(
            token * self.product.y_stride + self.row
        )


@fieldwise_init
struct Stretch(TrivialRegisterPassable):
    """Rows of one of several products; `index` is past the last when none is
    left."""

    var index: Int
    var first: Int
    var end: Int


@always_inline
def int8_tokens[
    kind: Kind, tokens: Int
](part: Part, x: Activations, panel: BytePtr, zero: Int32, mut token: Int):
    """Full tiles of `tokens` tokens from `token` on, while there are enough."""
    var x_stride = quantized_bytes(part.product.weights.columns())
    while token + tokens <= x.n_tokens:
        int8_tile[kind, tokens](
            panel,
            x.blocks.unsafe_offset(
                token * x_stride + part.column // TILE_COLUMNS * X_BLOCK_BYTES
            ),
            x_stride,
            part.n_columns // TILE_COLUMNS,
            zero,
            part.y(token),
            part.product.y_stride,
            part.n_rows(),
            part.column == 0,
        )
        token += tokens


@no_inline
def multiply_int8[
    kind: Kind
](part: Part, x: Activations, panel: BytePtr, zero: Int32):
    """A panel of quantised tiles times all tokens."""
    var token = 0
    int8_tokens[kind, INT8_TOKENS](part, x, panel, zero, token)
    int8_tokens[kind, 2](part, x, panel, zero, token)
    int8_tokens[kind, 1](part, x, panel, zero, token)


@always_inline
def float_tokens[
    tokens: Int
](part: Part, x: Activations, panel: BytePtr, mut token: Int):
    """The same in float32."""
    var x_stride = part.product.weights.columns()
    while token + tokens <= x.n_tokens:
        float_tile[tokens](
            panel,
            x.values.unsafe_offset(token * x_stride + part.column),
            x_stride,
            part.n_columns,
            part.y(token),
            part.product.y_stride,
            part.n_rows(),
            part.column == 0,
        )
        token += tokens


@no_inline
def multiply_float(part: Part, x: Activations, panel: BytePtr):
    """A panel of float tiles times all tokens."""
    var token = 0
    float_tokens[FLOAT_TOKENS](part, x, panel, token)
    float_tokens[4](part, x, panel, token)
    float_tokens[1](part, x, panel, token)


@always_inline
def unpack_step[
    F: WeightFormat, in_float: Bool, S: Source
](mut source: S, tile: BytePtr, spare: BytePtr):
    """The tiles of a block, in the form in which they are multiplied."""
    comptime if F.KIND.is_float:
        var sink = TileSink(tile, 0)
        F.unpack(source, sink)
    elif not in_float:
        var sink = TileSink(tile, VECTORS * QUANTISED_TILE_BYTES)
        F.unpack(source, sink)
    else:
        var sink = TileSink(spare, QUANTISED_TILE_BYTES)
        F.unpack(source, sink)
        for i in range(F.BLOCK_WEIGHTS // TILE_COLUMNS):
            tile_to_float[F.KIND, F.ZERO](
                spare.unsafe_offset(QUANTISED_TILE_BYTES * i),
                tile.unsafe_offset(VECTORS * FLOAT_TILE_BYTES * i),
            )


@always_inline
def unpack_columns[
    F: WeightFormat, in_float: Bool, S: Source
](
    mut source: S,
    n_columns: Int,
    tile: BytePtr,
    spare: BytePtr,
    mut fetch: Prefetcher,
):
    """Unpack columns of 16 rows that are not stored as in a file."""
    comptime tile_bytes = FLOAT_TILE_BYTES if in_float else QUANTISED_TILE_BYTES
    for column in range(0, n_columns, step_columns[F]()):
        fetch.step(LANES * step_bytes[F]())
        unpack_step[F, in_float](
            source, tile_at(tile, column, tile_bytes), spare
        )


@no_inline
def unpack_panel[
    F: WeightFormat, in_float: Bool
](part: Part, scratch: BytePtr, mut fetch: Prefetcher):
    """Unpack a stretch of columns of a group of rows."""
    comptime step = step_columns[F]()
    comptime tile_bytes = FLOAT_TILE_BYTES if in_float else QUANTISED_TILE_BYTES
    comptime read_bytes = LANES * step_bytes[F]()
    var weights = part.product.weights
    var spare = scratch.unsafe_offset(PANEL_BYTES)
    # Not unrolled: the code for all formats is most of the library.
    for r in range(VECTORS):
        var row = part.row + LANES * r
        var tile = scratch.unsafe_offset(r * tile_bytes)
        if weights.layout != STORED:
            # A group beyond the last row is not there: the last again.
            row = min(row, (weights.rows() - 1) // LANES * LANES)
            var n = part.n_columns
            if weights.layout == PACKED:
                var packed = weights.packed[F](row, part.column)
                unpack_columns[F, in_float](packed, n, tile, spare, fetch)
            else:
                comptime if F.ID == Q8_0.ID:
                    var block = part.column // TILE_COLUMNS
                    var planes = PlaneRows(group_at(weights, row, block))
                    unpack_columns[F, in_float](planes, n, tile, spare, fetch)
        else:
            row = min(row, weights.rows() - 1)
            var source = weights.stored[F](row, part.column)
            var whole = part.n_columns // step * step
            for column in range(0, whole, step):
                fetch.step(read_bytes)
                unpack_step[F, in_float](
                    source, tile_at(tile, column, tile_bytes), spare
                )
                source.move_to(source.base.unsafe_offset(step_bytes[F]()))
            if whole < part.n_columns:
                var left = (part.n_columns - whole) * F.BLOCK_BYTES
                var end = source.copy_end(left, spare)
                unpack_step[F, in_float](
                    end, tile_at(tile, whole, tile_bytes), spare
                )


@always_inline
def tile_at(panel: BytePtr, column: Int, tile_bytes: Int) -> BytePtr:
    """The tile that begins at `column` of a panel's vector."""
    return panel.unsafe_offset(column // TILE_COLUMNS * VECTORS * tile_bytes)


@always_inline
def dot_columns[
    F: WeightFormat, S: Source
](mut source: S, n_columns: Int, x: BytePtr, mut fetch: Prefetcher) -> Vector:
    """All columns of 16 rows times one token."""
    comptime step = step_columns[F]()
    comptime read_bytes = LANES * step_bytes[F]()
    comptime x_bytes = step // TILE_COLUMNS * X_BLOCK_BYTES
    var acc = Vector(0)
    var blocks = x
    for _ in range(0, n_columns, step):
        fetch.step(read_bytes)
        dot_block[F](source, blocks, acc)
        blocks = blocks.unsafe_offset(x_bytes)
    return acc


@no_inline
def multiply_one[
    F: WeightFormat
](part: Part, x: BytePtr, mut fetch: Prefetcher):
    """All columns of a group of rows that is not stored times one token."""
    var weights = part.product.weights
    comptime for r in range(VECTORS):
        var row = part.row + LANES * r
        if row < weights.rows():
            var acc = Vector(0)
            if weights.layout == PACKED:
                var packed = weights.packed[F](row, 0)
                acc = dot_columns[F](packed, weights.columns(), x, fetch)
            else:
                comptime if F.ID == Q8_0.ID:
                    var planes = PlaneRows(group_at(weights, row))
                    acc = dot_columns[F](planes, weights.columns(), x, fetch)
            store_vector(
                part.y(0).unsafe_offset(LANES * r), acc, weights.rows() - row
            )


@always_inline
def multiply_group[
    F: WeightFormat, in_float: Bool
](
    product: Product,
    x: Activations,
    row: Int,
    scratch: BytePtr,
    mut fetch: Prefetcher,
):
    """All columns of the group of rows that begins at `row`."""
    comptime panel_columns = (
        FLOAT_PANEL_COLUMNS if in_float else INT8_PANEL_COLUMNS
    )
    var columns = product.weights.columns()
    comptime if not in_float:
        if x.n_tokens == 1 and product.weights.layout != STORED:
            multiply_one[F](Part(product, row, 0, columns), x.blocks, fetch)
            return
    for column in range(0, columns, panel_columns):
        var part = Part(
            product, row, column, min(panel_columns, columns - column)
        )
        unpack_panel[F, in_float](part, scratch, fetch)
        comptime if in_float:
            multiply_float(part, x, scratch)
        else:
            multiply_int8[F.KIND](part, x, scratch, Int32(F.ZERO))


@always_inline
def groups_of_piece(product: Product, n_threads: Int) -> Int:
    """Groups of rows that make a piece of work.

    A product is cut into some pieces for each thread: enough to even out, few
    enough for memory to be read in long runs.
    """
    return max(1, product.n_groups() // (4 * n_threads))


@always_inline
def n_pieces(product: Product, n_threads: Int) -> Int:
    var size = groups_of_piece(product, n_threads)
    return (product.n_groups() + size - 1) // size


@always_inline
def stretch_of[
    n: Int
](products: Array[Product, n], piece: Int, n_threads: Int) -> Stretch:
    """Which rows of which product piece of work `piece` is."""
    var left = piece
    for i in range(n):
        var pieces = n_pieces(products[i], n_threads)
        if left < pieces:
            var rows = GROUP_ROWS * groups_of_piece(products[i], n_threads)
            return Stretch(
                i,
                left * rows,
                min((left + 1) * rows, products[i].weights.rows()),
            )
        left -= pieces
    return Stretch(n, 0, 0)


@always_inline
def bytes_of[n: Int](products: Array[Product, n], stretch: Stretch) -> Bytes:
    """Where the weights of a stretch lie."""
    if stretch.index >= n:
        return Bytes(products[0].weights.data.unsafe_value(), 0)
    var weights = products[stretch.index].weights
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if weights.format == F.ID:
            var size = weights.row_bytes[F]()
            if weights.layout == PACKED:
                size = weights.group_bytes[F]() // LANES
            elif weights.layout == PLANES:
                size = upper_bytes(weights) // LANES
            return Bytes(
                weights.data.unsafe_value().unsafe_offset(stretch.first * size),
                (stretch.end - stretch.first) * size,
            )
    return Bytes(weights.data.unsafe_value(), 0)


@always_inline
def run_stretch(
    product: Product,
    x: Activations,
    exact: Bool,
    stretch: Stretch,
    scratch: BytePtr,
    mut fetch: Prefetcher,
):
    """Multiply a stretch of rows in their format.

    `exact` multiplies quantised weights in float32 too.
    """
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        if product.weights.format == F.ID:
            comptime if F.KIND.is_float:
                if x.halves:
                    multiply_bfloat16[F](
                        product.weights,
                        stretch.first,
                        stretch.end,
                        x.halves.unsafe_value(),
                        x.n_tokens,
                        product.y,
                        product.y_stride,
                        scratch,
                        fetch,
                    )
                    return
            for row in range(stretch.first, stretch.end, GROUP_ROWS):
                comptime if F.KIND.is_float:
                    multiply_group[F, True](product, x, row, scratch, fetch)
                else:
                    if exact:
                        multiply_group[F, True](product, x, row, scratch, fetch)
                    else:
                        multiply_group[F, False](
                            product, x, row, scratch, fetch
                        )
            return


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

    Threads take stretches of rows as they come; a barrier has to follow.
    """
    var n_threads = team[].n_threads
    var current = stretch_of[n](products, team[].take(), n_threads)
    var fetch = Prefetcher(bytes_of[n](products, current))
    while current.index < n:
        var next = stretch_of[n](products, team[].take(), n_threads)
        fetch.then(bytes_of[n](products, next))
        run_stretch(products[current.index], x, exact, current, scratch, fetch)
        current = next
