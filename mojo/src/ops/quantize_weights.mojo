"""Float weights to another format: packed, while a model is loaded, or as rows
of a file.

One `Encoder` a format (`encode_floats.mojo` and its like) takes columns of 16
rows as float32. The source stays as it is, and is gone through once.
"""

from std.memory import bitcast

from formats import ALL_FORMATS
from formats.matrix import PACKED, STORED, Matrix
from formats.rows import LANES, StoredRows
from formats.target import PackedTarget, StoredTarget, Target
from formats.tile import FLOAT_TILE_BYTES, TILE_COLUMNS, TileSink
from ops.encode_floats import ToBF16, ToF16, ToF32
from ops.encode_q4_k import ToQ4_K
from ops.encode_q6_k import ToQ6_K
from ops.encode_scaled import ToQ4_0, ToQ5_0, ToQ8_0
from ops.encoder import Encoder, column, magnitude
from runtime.threads import TeamPtr
from runtime.views import U32, BytePtr, round_up

comptime ALL_ENCODERS = TypeList.of[
    Trait=Encoder,
    ToF32,
    ToF16,
    ToBF16,
    ToQ8_0,
    ToQ6_K,
    ToQ5_0,
    ToQ4_K,
    ToQ4_0,
]()
"""What float weights can be brought to; all dispatch walks it."""


def is_float(format: Int32) -> Bool:
    """Whether a format's weights are floats: what an encoder takes."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        comptime if F.KIND.is_float:
            if format == F.ID:
                return True
    return False


def quantized_weight_bytes(matrix: Matrix, format: Int32, layout: Int32) -> Int:
    """Bytes of a matrix of floats in `format`.

    0 where that cannot be: its rows are no whole blocks, it is not of floats,
    there is no encoder, or none for that layout.
    """
    if not is_float(matrix.format) or (layout != STORED and layout != PACKED):
        return 0
    comptime for i in range(ALL_ENCODERS.length):
        comptime E = ALL_ENCODERS[i]
        if format == E.Format.ID:
            if matrix.columns() % E.COLUMNS != 0:
                return 0
            if layout == STORED:
                return matrix.rows() * matrix.row_bytes[E.Format]()
            var groups = round_up(matrix.rows(), LANES) // LANES
            return groups * matrix.group_bytes[E.Format]()
    return 0


def float_rows(matrix: Matrix, row: Int) -> StoredRows:
    """Up to 16 stored rows of floats from `row` on."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        comptime if F.KIND.is_float:
            if matrix.format == F.ID:
                return matrix.stored[F](row, 0)
    return StoredRows(matrix.data.unsafe_value(), 0, 1)


@no_inline
def read_columns(
    format: Int32, mut source: StoredRows, n_tiles: Int, weights: BytePtr
):
    """Write the next columns of 16 rows as float32, and move behind them."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        comptime if F.KIND.is_float:
            if format == F.ID:
                for tile in range(n_tiles):
                    var sink = TileSink(
                        weights.unsafe_offset(tile * FLOAT_TILE_BYTES), 0
                    )
                    F.unpack(source, sink)
                    source.move_to(
                        source.base.unsafe_offset(TILE_COLUMNS * F.BLOCK_BYTES)
                    )


@always_inline
def fits[E: Encoder](weights: BytePtr) -> Bool:
    """Whether all weights of a block are finite, and will be."""
    var most = SIMD[U32, LANES](0)
    for i in range(E.COLUMNS):
        most = max(most, magnitude(column(weights, i)))
    return most.reduce_max() <= bitcast[U32, 1](E.LARGEST)


@no_inline
def encode_rows[
    E: Encoder, T: Target
](matrix: Matrix, row: Int, mut to: T, scratch: BytePtr) -> Bool:
    """Encode the 16 rows from `row` on; False, and unfinished, where a weight
    cannot be."""
    comptime blocks = E.COLUMNS // E.Format.BLOCK_WEIGHTS
    var source = float_rows(matrix, row)
    for _ in range(0, matrix.columns(), E.COLUMNS):
        read_columns(matrix.format, source, E.COLUMNS // TILE_COLUMNS, scratch)
        if not fits[E](scratch):
            return False
        E.encode(scratch, to)
        to.move_on(blocks * E.Format.BLOCK_BYTES)
    return True


def encode_group[
    E: Encoder
](matrix: Matrix, encoded: Matrix, row: Int, scratch: BytePtr) -> Bool:
    """Encode 16 rows into whichever layout is wanted."""
    if encoded.layout == PACKED:
        var to = PackedTarget(encoded.packed[E.Format](row, 0))
        return encode_rows[E](matrix, row, to, scratch)
    var to = StoredTarget(
        encoded.row[E.Format](row),
        encoded.row_bytes[E.Format](),
        encoded.rows() - row,
    )
    return encode_rows[E](matrix, row, to, scratch)


def share_quantizing(
    team: TeamPtr,
    matrix: Matrix,
    encoded: Matrix,
    first: Int,
    end: Int,
    scratch: BytePtr,
) -> Bool:
    """This thread's part of encoding rows `first` to `end` - 1.

    Threads take groups of 16 rows, which `first` is a multiple of. False where
    a weight is not finite, or would not be in the format.
    """
    comptime for i in range(ALL_ENCODERS.length):
        comptime E = ALL_ENCODERS[i]
        if encoded.format == E.Format.ID:
            var row = first + team[].take() * LANES
            while row < end:
                if not encode_group[E](matrix, encoded, row, scratch):
                    return False
                row = first + team[].take() * LANES
    return True
