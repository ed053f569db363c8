"""Float weights to a smaller format while a model is loaded, packed at once.

One `Encoder` a format: it takes columns of 16 rows as float32 and writes what
`unpack` of the format will read. The source stays as the file has it, and is
gone through once.
"""

from std.math import trunc
from std.memory import bitcast

from formats import ALL_FORMATS
from formats.bf16 import BF16
from formats.format import WeightFormat
from formats.matrix import Matrix
from formats.q8_0 import Q8_0
from formats.rows import LANES, PackedRows, Vector, Words
from formats.tile import FLOAT_TILE_BYTES, TILE_COLUMNS, TileSink
from ops.bfloat16 import pair
from runtime.threads import TeamPtr
from runtime.views import F32, I32, U16, U32, BytePtr, floats, round_up


trait Encoder:
    """A format that float weights can be brought to."""

    comptime Format: WeightFormat
    comptime COLUMNS: Int
    """Columns that are encoded together: a block, or a tile's of floats."""

    @staticmethod
    def encode(weights: BytePtr, mut to: PackedRows):
        """Write COLUMNS columns of 16 rows.

        Args:
            weights: COLUMNS vectors, one after another: a column of each row.
            to: Where the packed matrix goes on; moves past what is written.
        """
        ...


@always_inline
def column(weights: BytePtr, index: Int) -> Vector:
    return floats(weights).unsafe_load[width=LANES, alignment=64](LANES * index)


@always_inline
def put_half(mut to: PackedRows, half: Words):
    """Write 2 bytes of each row."""
    to.halves.unsafe_bitcast[UInt16]().unsafe_store(0, half.cast[U16]())
    to.halves = to.halves.unsafe_offset(2 * LANES)


@always_inline
def put_word(mut to: PackedRows, word: Words):
    """Write 4 bytes of each row."""
    to.vectors.unsafe_bitcast[UInt32]().unsafe_store(0, word)
    to.vectors = to.vectors.unsafe_offset(4 * LANES)


@always_inline
def magnitude(x: Vector) -> Words:
    """Its bits without the sign: they compare like the magnitudes, NaN last."""
    return bitcast[U32, LANES](x) & 0x7FFFFFFF


@always_inline
def round_half_away(x: Vector) -> Vector:
    """The nearest integer, of two the one away from zero, as ggml rounds."""
    var whole = trunc(x)
    var sign = bitcast[U32, LANES](x) & 0x80000000
    var one = bitcast[F32, LANES](sign | 0x3F800000)
    return abs(x - whole).ge(0.5).select(whole + one, whole)


struct ToBF16(Encoder):
    """The nearest bfloat16, or the even one."""

    comptime Format = BF16
    comptime COLUMNS = TILE_COLUMNS

    @staticmethod
    @always_inline
    def encode(weights: BytePtr, mut to: PackedRows):
        comptime for i in range(TILE_COLUMNS // 2):
            put_word(
                to, pair(column(weights, 2 * i), column(weights, 2 * i + 1))
            )


struct ToQ8_0(Encoder):
    """Scale max |w| / 127, as float16; weights by the scale before that
    rounding, to the nearest integer. What ggml's quantiser gives."""

    comptime Format = Q8_0
    comptime COLUMNS = Q8_0.BLOCK_WEIGHTS

    @staticmethod
    @always_inline
    def encode(weights: BytePtr, mut to: PackedRows):
        var most = Words(0)
        comptime for i in range(Self.COLUMNS):
            most = max(most, magnitude(column(weights, i)))
        var scale = bitcast[F32, LANES](most) / 127
        var inverse = scale.eq(0).select(Vector(0), 1 / scale)
        var half = scale.cast[DType.float16]()
        put_half(to, bitcast[U16, LANES](half).cast[U32]())
        comptime for g in range(Self.COLUMNS // 4):
            var word = Words(0)
            comptime for i in range(4):
                var q = round_half_away(column(weights, 4 * g + i) * inverse)
                # A scale that float16 holds as zero may give anything here.
                q = min(max(q, Vector(-127)), Vector(127))
                var byte = bitcast[U32, LANES](q.cast[I32]()) & 0xFF
                word |= byte << UInt32(8 * i)
            put_word(to, word)


comptime ALL_ENCODERS = TypeList.of[Trait=Encoder, ToBF16, ToQ8_0]()
"""What float weights can be brought to; all dispatch walks it."""


def is_float(format: Int32) -> Bool:
    """Whether a format's weights are floats: what an encoder takes."""
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        comptime if F.KIND.is_float:
            if format == F.ID:
                return True
    return False


def quantized_weight_bytes(matrix: Matrix, format: Int32) -> Int:
    """Bytes of a matrix of floats when it is packed in `format`.

    0 where that cannot be: its rows are no whole blocks, it is not of floats,
    or there is no encoder.
    """
    if not is_float(matrix.format):
        return 0
    comptime for i in range(ALL_ENCODERS.length):
        comptime E = ALL_ENCODERS[i]
        if format == E.Format.ID:
            if matrix.columns() % E.COLUMNS != 0:
                return 0
            var groups = round_up(matrix.rows(), LANES) // LANES
            return groups * matrix.group_bytes[E.Format]()
    return 0


@no_inline
def quantize_group[
    F: WeightFormat, E: Encoder
](matrix: Matrix, packed: Matrix, row: Int, scratch: BytePtr):
    """Encode the 16 rows from `row` on."""
    comptime step_bytes = TILE_COLUMNS * F.BLOCK_BYTES
    var source = matrix.stored[F](row, 0)
    var to = packed.packed[E.Format](row, 0)
    for _ in range(0, matrix.columns(), E.COLUMNS):
        comptime for tile in range(E.COLUMNS // TILE_COLUMNS):
            var sink = TileSink(
                scratch.unsafe_offset(tile * FLOAT_TILE_BYTES), 0
            )
            F.unpack(source, sink)
            source.move_to(source.base.unsafe_offset(step_bytes))
        E.encode(scratch, to)


def share_quantizing(
    team: TeamPtr,
    matrix: Matrix,
    packed: Matrix,
    first: Int,
    end: Int,
    scratch: BytePtr,
):
    """This thread's part of encoding rows `first` to `end` - 1.

    Threads take groups of 16 rows, which `first` is a multiple of.
    """
    comptime for i in range(ALL_FORMATS.length):
        comptime F = ALL_FORMATS[i]
        comptime if F.KIND.is_float:
            comptime for k in range(ALL_ENCODERS.length):
                comptime E = ALL_ENCODERS[k]
                if matrix.format == F.ID and packed.format == E.Format.ID:
                    var row = first + team[].take() * LANES
                    while row < end:
                        quantize_group[F, E](matrix, packed, row, scratch)
                        row = first + team[].take() * LANES
