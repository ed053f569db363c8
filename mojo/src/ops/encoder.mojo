"""What a weight format's encoder is, and what all of them need."""

from std.math import trunc
from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Vector, Words
from formats.target import Target
from runtime.views import F32, I32, U16, U32, BytePtr, floats


trait Encoder:
    """A format that float weights can be brought to.

    Sixteen rows lie across the lanes, so every sum over weights takes its
    columns in order, whatever the processor. Products that are added are fused
    (`fma`) by name; no other product is added, so that nobody may choose.
    """

    comptime Format: WeightFormat
    comptime COLUMNS: Int
    """Columns that are encoded together: a block, or a tile's of floats."""

    comptime LARGEST: Float32
    """Weights up to this magnitude stay finite in the format."""

    @staticmethod
    def encode[T: Target](weights: BytePtr, mut to: T):
        """Write COLUMNS columns of 16 rows.

        Args:
            weights: COLUMNS vectors, one after another: a column of each row.
                The encoder may overwrite them.
            to: The block, written as `unpack` of the format reads it.
        """
        ...


comptime LARGEST_HALF = Float32(65504)
"""The largest float16: what a scale may be at most."""


@always_inline
def column(weights: BytePtr, index: Int) -> Vector:
    return floats(weights).unsafe_load[width=LANES, alignment=64](LANES * index)


@always_inline
def magnitude(x: Vector) -> Words:
    """Its bits without the sign: they compare like the magnitudes, NaN last."""
    return bitcast[U32, LANES](x) & 0x7FFFFFFF


@always_inline
def half_of(x: Vector) -> Words:
    """The nearest float16 of each number, in the low half of its word."""
    return bitcast[U16, LANES](x.cast[DType.float16]()).cast[U32]()


@always_inline
def round_half_away(x: Vector) -> Vector:
    """The nearest integer, of two the one away from zero, as ggml rounds."""
    var whole = trunc(x)
    var sign = bitcast[U32, LANES](x) & 0x80000000
    var one = bitcast[F32, LANES](sign | 0x3F800000)
    return abs(x - whole).ge(0.5).select(whole + one, whole)


@always_inline
def between(x: Vector, least: Float32, most: Float32) -> Vector:
    return min(max(x, Vector(least)), Vector(most))


@always_inline
def integer(x: Vector) -> Words:
    """Whole numbers as words; negative ones as their two's complement."""
    return bitcast[U32, LANES](x.cast[I32]())


@always_inline
def put_integer(weights: BytePtr, index: Int, q: Words):
    """Write an integer of each row over the weights of a column."""
    weights.unsafe_bitcast[UInt32]().unsafe_store[alignment=64](
        LANES * index, q
    )


@always_inline
def integer_at(weights: BytePtr, index: Int) -> Words:
    """What `put_integer` has written."""
    return bitcast[U32, LANES](column(weights, index))


@always_inline
def four_bytes(weights: BytePtr, first: Int) -> Array[Words, 4]:
    """Sixteen columns of integers below 256 from `first` on, a byte each."""
    var words = Array[Words, 4](fill=Words(0))
    comptime for i in range(16):
        words[i // 4] |= integer_at(weights, first + i) << UInt32(8 * (i % 4))
    return words^


@no_inline
def furthest[n: Int](weights: BytePtr) -> Vector:
    """Of n columns the weight of the greatest magnitude, the first of equals."""
    var most = column(weights, 0)
    comptime for i in range(1, n):
        var x = column(weights, i)
        most = magnitude(x).gt(magnitude(most)).select(x, most)
    return most
