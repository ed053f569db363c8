"""Blocks of 32 weights with one scale, from the weight that is furthest from
zero: bit for bit the blocks that ggml's reference quantiser makes."""

from std.math import trunc

from formats.q4_0 import Q4_0
from formats.q5_0 import Q5_0
from formats.q8_0 import Q8_0
from formats.rows import Vector, Words
from formats.target import Target
from ops.encoder import (
    LARGEST_HALF,
    Encoder,
    between,
    column,
    four_bytes,
    furthest,
    half_of,
    integer,
    integer_at,
    magnitude,
    put_integer,
    round_half_away,
)
from runtime.views import BytePtr


struct ToQ8_0(Encoder):
    """Scale max |w| / 127, as float16; weights by the scale before that
    rounding, to the nearest integer."""

    comptime Format = Q8_0
    comptime COLUMNS = Q8_0.BLOCK_WEIGHTS
    comptime LARGEST = 127 * LARGEST_HALF

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        to.half[0](round_signed(weights))
        comptime for half in range(2):
            to.words[2 + 16 * half](four_bytes(weights, 16 * half))


@always_inline
def reciprocal(scale: Vector) -> Vector:
    """1 / scale; 0 where that is no float32: of such a scale nothing is left in
    float16."""
    var inverse = 1 / scale
    return magnitude(inverse).lt(0x7F800000).select(inverse, Vector(0))


@no_inline
def round_signed(weights: BytePtr) -> Words:
    """Replace 32 weights by signed bytes; their scale as float16."""
    var scale = abs(furthest[32](weights)) / 127
    var inverse = reciprocal(scale)
    for i in range(32):
        # A scale that float16 holds as zero may give anything here.
        var q = round_half_away(column(weights, i) * inverse)
        put_integer(weights, i, integer(between(q, -127, 127)) & 0xFF)
    return half_of(scale)


@no_inline
def round_offset[zero: Int](weights: BytePtr) -> Words:
    """Replace 32 weights by integers from 0 on, `zero` for zero; their scale,
    which brings the furthest of them to 0, as float16."""
    comptime middle = Float32(zero)
    var scale = furthest[32](weights) / -middle
    var inverse = reciprocal(scale)
    for i in range(32):
        # The bound changes no result; it is there so that the product is
        # rounded before something is added, as the reference does it.
        var scaled = between(column(weights, i) * inverse, -middle, middle)
        var q = trunc(scaled + (middle + Float32(0.5)))
        put_integer(weights, i, integer(min(q, Vector(2 * middle - 1))))
    return half_of(scale)


@always_inline
def nibbles_of(weights: BytePtr) -> Array[Words, 4]:
    """The low four bits of 32 integers, the first sixteen in low nibbles."""
    var nibbles = four_bytes(weights, 0)
    var high = four_bytes(weights, 16)
    comptime for g in range(4):
        nibbles[g] = (nibbles[g] & 0x0F0F0F0F) | ((high[g] & 0x0F0F0F0F) << 4)
    return nibbles^


struct ToQ5_0(Encoder):
    """Sixteen steps below zero and fifteen above; what Q4_K falls back to."""

    comptime Format = Q5_0
    comptime COLUMNS = Q5_0.BLOCK_WEIGHTS
    comptime LARGEST = 16 * LARGEST_HALF

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        to.half[0](round_offset[16](weights))
        var fifths = Words(0)
        comptime for i in range(Self.COLUMNS):
            fifths |= (integer_at(weights, i) >> 4) << UInt32(i)
        to.word[2](fifths)
        to.words[6](nibbles_of(weights))


struct ToQ4_0(Encoder):
    """Eight steps below zero and seven above."""

    comptime Format = Q4_0
    comptime COLUMNS = Q4_0.BLOCK_WEIGHTS
    comptime LARGEST = 8 * LARGEST_HALF

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        to.half[0](round_offset[8](weights))
        to.words[2](nibbles_of(weights))
