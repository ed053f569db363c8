"""Q6_K: the scale of each 16 weights by weighted least squares.

As in Q4_K, a few roundings are tried, each with the scale that fits it best;
weights count by their squares. ggml's reference quantiser has the same
candidates.
"""

from formats.q6_k import Q6_K
from formats.rows import LANES, Vector, Words, low_halves
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
    magnitude,
    put_integer,
)
from runtime.views import BytePtr

comptime STRETCH = 16
"""Weights that share a scale."""

comptime STRETCHES = Q6_K.BLOCK_WEIGHTS // STRETCH
comptime ZERO = 32
comptime REACH = 9
"""Roundings tried: the furthest weight at 31.1, 31.2 ... 32.9 steps."""

comptime SMALLEST = Float32(1e-15)
"""A stretch of smaller weights counts as zeros, since their squares would."""


@always_inline
def tenths_of(candidate: Int) -> Int:
    """0 first, which is taken among equals; then -9 to -1 and 1 to 9."""
    if candidate == 0:
        return 0
    return candidate - REACH - (1 if candidate <= REACH else 0)


@no_inline
def best_scale(weights: BytePtr) -> Vector:
    """Search the scale of a stretch of 16 rows; negative where the furthest
    weight is positive."""
    var most = furthest[STRETCH](weights)
    var is_zero = abs(most).lt(SMALLEST)
    var divisor = is_zero.select(Vector(1), most)
    var best = Vector(0)
    var explained = Vector(0)
    for candidate in range(2 * REACH + 1):
        var steps = Float32(-(10 * ZERO + tenths_of(candidate))) / 10
        var inverse = steps / divisor
        var sum_qx = Vector(0)
        var sum_qq = Vector(0)
        comptime for i in range(STRETCH):
            var x = column(weights, i)
            var q = between(round(inverse * x), -ZERO, ZERO - 1)
            var wq = x * x * q
            sum_qx = wq.fma(x, sum_qx)
            sum_qq = wq.fma(q, sum_qq)
        var is_scale = sum_qq.gt(0) & ~is_zero
        var scale = sum_qx / is_scale.select(sum_qq, Vector(1))
        var is_better = is_scale & (sum_qx * sum_qx).gt(explained * sum_qq)
        best = is_better.select(scale, best)
        explained = is_better.select(scale * sum_qx, explained)
    return best


@no_inline
def round_stretch(weights: BytePtr, scale: Vector):
    """Replace the weights of a stretch by their integers, 32 for zero."""
    var is_zero = scale.eq(0)
    var divisor = is_zero.select(Vector(1), scale)
    for i in range(STRETCH):
        var q = between(round(column(weights, i) / divisor), -ZERO, ZERO - 1)
        q = is_zero.select(Vector(0), q)
        put_integer(weights, i, integer(q) + ZERO)


@fieldwise_init
struct Scales(Movable):
    """What a block of each row ends with."""

    var bytes: Array[Words, 4]
    var d: Words


@no_inline
def round_block(weights: BytePtr) -> Scales:
    """Replace the weights of a block by their integers; its scales."""
    comptime n_bytes = 4 * LANES * STRETCH
    var scales = Array[Vector, STRETCHES](fill=Vector(0))
    var most = Vector(0)
    for j in range(STRETCHES):
        scales[j] = best_scale(weights.unsafe_offset(n_bytes * j))
        var is_further = magnitude(scales[j]).gt(magnitude(most))
        most = is_further.select(scales[j], most)
    var is_zero = abs(most).lt(SMALLEST)
    var inverse = Float32(-128) / is_zero.select(Vector(1), most)
    var d = half_of(is_zero.select(Vector(0), 1 / inverse))
    var bytes = Array[Words, 4](fill=Words(0))
    for j in range(STRETCHES):
        var whole = between(round(inverse * scales[j]), -128, 127)
        whole = is_zero.select(Vector(0), whole)
        bytes[j // 4] |= (integer(whole) & 0xFF) << UInt32(8 * (j % 4))
        var place = weights.unsafe_offset(n_bytes * j)
        round_stretch(place, low_halves(d) * whole)
    return Scales(bytes^, d)


struct ToQ6_K(Encoder):
    """Scales of sixteen stretches as signed bytes; the furthest is -128."""

    comptime Format = Q6_K
    comptime COLUMNS = Q6_K.BLOCK_WEIGHTS
    comptime LARGEST = ZERO * LARGEST_HALF

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        var scales = round_block(weights)
        to.half[208](scales.d)
        to.words[192](scales.bytes)
        comptime for quarter in range(4):
            comptime h = quarter // 2
            comptime part = quarter % 2
            var pairs = Array[Words, 4](fill=Words(0))
            var nibbles = Array[Words, 8](fill=Words(0))
            comptime for k in range(4):
                var q = four_bytes(weights, 32 * (4 * h + k) + 16 * part)
                comptime for g in range(4):
                    pairs[g] |= ((q[g] >> 4) & 0x03030303) << UInt32(2 * k)
                    nibbles[4 * (k % 2) + g] |= (q[g] & 0x0F0F0F0F) << UInt32(
                        4 * (k // 2)
                    )
            to.words[128 + 32 * h + 16 * part](pairs)
            comptime for lane in range(2):
                var four = Array[Words, 4](fill=Words(0))
                comptime for g in range(4):
                    four[g] = nibbles[4 * lane + g]
                to.words[64 * h + 32 * lane + 16 * part](four)
