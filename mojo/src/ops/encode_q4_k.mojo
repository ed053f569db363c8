"""Q4_K: scale and minimum of each 32 weights by weighted least squares.

Whichever integers the weights are rounded to, the best scale and minimum for
them follow from a linear regression; so a few roundings are tried, and the one
with the least error is taken. That is how ggml's reference quantiser searches,
over the same candidates, each from the best minimum so far, and with the same
weighting. Here the error is not summed up: at the optimum it is a constant less
what the regression explains.
"""

from std.math import sqrt

from formats.q4_k import Q4_K
from formats.rows import LANES, Vector, Words, low_halves
from formats.target import Target
from ops.encoder import (
    LARGEST_HALF,
    Encoder,
    between,
    column,
    four_bytes,
    half_of,
    integer,
    put_integer,
)
from runtime.views import BytePtr

comptime STRETCH = 32
"""Weights that share a scale and a minimum."""

comptime STRETCHES = Q4_K.BLOCK_WEIGHTS // STRETCH
comptime MOST = 15
"""The largest integer of a weight."""

comptime MOST_SCALE = 63
comptime CANDIDATES = 21
"""Roundings tried: the range of the weights in 14.0, 14.1 ... 16.0 steps."""


@fieldwise_init
struct Line(TrivialRegisterPassable):
    """What integers stand for in each row: weight = scale * q + least."""

    var scale: Vector
    var least: Vector


@always_inline
def importance(weights: BytePtr, mut weight: Array[Vector, STRETCH]):
    """How much the error of each column counts: large weights more."""
    var squares = Vector(0)
    comptime for i in range(STRETCH):
        squares = column(weights, i).fma(column(weights, i), squares)
    var typical = sqrt(squares / STRETCH)
    comptime for i in range(STRETCH):
        weight[i] = typical + abs(column(weights, i))


@no_inline
def best_line(weights: BytePtr) -> Line:
    """Search the line of a stretch of 16 rows. `least` is at most 0."""
    var weight = Array[Vector, STRETCH](fill=Vector(0))
    importance(weights, weight)
    var least = Vector(0)
    var most = column(weights, 0)
    var sum_w = Vector(0)
    var sum_x = Vector(0)
    comptime for i in range(STRETCH):
        var x = column(weights, i)
        least = min(least, x)
        most = max(most, x)
        sum_w += weight[i]
        sum_x = weight[i].fma(x, sum_x)
    var best = Line((most - least) / MOST, least)
    var explained = Vector(-1)
    for candidate in range(CANDIDATES):
        # Of equal weights the extent is 0: nothing below is better than that.
        var steps = Float32(10 * (MOST - 1) + candidate) / 10
        var inverse = steps / (most - best.least)
        var sum_q = Vector(0)
        var sum_qq = Vector(0)
        var sum_qx = Vector(0)
        comptime for i in range(STRETCH):
            var x = column(weights, i)
            var q = between(round(inverse * (x - best.least)), 0, MOST)
            var wq = weight[i] * q
            sum_q = weight[i].fma(q, sum_q)
            sum_qq = wq.fma(q, sum_qq)
            sum_qx = wq.fma(x, sum_qx)
        var spread = sum_w.fma(sum_qq, -(sum_q * sum_q))
        var scale = sum_w.fma(sum_qx, -(sum_x * sum_q)) / spread
        var low = sum_qq.fma(sum_x, -(sum_q * sum_qx)) / spread
        # The format has no positive minimum: then the line goes through zero.
        var is_above = low.gt(0)
        scale = is_above.select(sum_qx / sum_qq, scale)
        low = is_above.select(Vector(0), low)
        var gain = scale.fma(sum_qx, low * sum_x)
        var is_better = spread.gt(0) & gain.gt(explained)
        explained = is_better.select(gain, explained)
        best.scale = is_better.select(scale, best.scale)
        best.least = is_better.select(low, best.least)
    return best


@no_inline
def in_sixty_thirds(mut x: Array[Vector, STRETCHES]) -> Words:
    """Make eight non-negative numbers integers of 6 bits, and return the f16
    that these are multiplied by; 0 where it would be too small."""
    var most = Vector(0)
    for j in range(STRETCHES):
        most = max(most, x[j])
    var unit = half_of(most / MOST_SCALE)
    var is_zero = unit.eq(0)
    var inverse = Float32(MOST_SCALE) / is_zero.select(Vector(1), most)
    for j in range(STRETCHES):
        var whole = between(round(inverse * x[j]), 0, MOST_SCALE)
        x[j] = is_zero.select(Vector(0), whole)
    return unit


@always_inline
def folded(
    scales: Array[Vector, STRETCHES], mins: Array[Vector, STRETCHES]
) -> Array[Words, 4]:
    """The 6-bit scales and minimums in words 1 to 3, as Q4_K unfolds them."""
    var head = Array[Words, 4](fill=Words(0))
    comptime for j in range(4):
        comptime shift = UInt32(8 * j)
        var scale = integer(scales[j])
        var low = integer(mins[j])
        var later_scale = integer(scales[j + 4])
        var later_low = integer(mins[j + 4])
        head[1] |= (scale | (later_scale >> 4 << 6)) << shift
        head[2] |= (low | (later_low >> 4 << 6)) << shift
        head[3] |= ((later_scale & 15) | ((later_low & 15) << 4)) << shift
    return head^


@no_inline
def round_stretch(weights: BytePtr, line: Line):
    """Replace the weights of a stretch by their integers, 0 to 15."""
    var is_zero = line.scale.eq(0)
    var scale = is_zero.select(Vector(1), line.scale)
    for i in range(STRETCH):
        var x = column(weights, i) - line.least
        var q = between(round(x / scale), 0, MOST)
        put_integer(weights, i, integer(is_zero.select(Vector(0), q)))


@no_inline
def round_block(weights: BytePtr) -> Array[Words, 4]:
    """Replace the weights of a block by their integers; what it begins with."""
    comptime n_bytes = 4 * LANES * STRETCH
    var scales = Array[Vector, STRETCHES](fill=Vector(0))
    var mins = Array[Vector, STRETCHES](fill=Vector(0))
    for j in range(STRETCHES):
        var line = best_line(weights.unsafe_offset(n_bytes * j))
        scales[j] = line.scale
        mins[j] = -line.least
    var d = in_sixty_thirds(scales)
    var d_min = in_sixty_thirds(mins)
    for j in range(STRETCHES):
        var line = Line(
            low_halves(d) * scales[j], -(low_halves(d_min) * mins[j])
        )
        round_stretch(weights.unsafe_offset(n_bytes * j), line)
    var head = folded(scales, mins)
    head[0] = d | (d_min << 16)
    return head^


struct ToQ4_K(Encoder):
    """Lines of eight stretches, in units that a block shares."""

    comptime Format = Q4_K
    comptime COLUMNS = Q4_K.BLOCK_WEIGHTS
    comptime LARGEST = MOST * LARGEST_HALF

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        to.words[0](round_block(weights))
        comptime for chunk in range(STRETCHES // 2):
            comptime for half in range(2):
                comptime first = 2 * STRETCH * chunk + 16 * half
                var nibbles = four_bytes(weights, first)
                var high = four_bytes(weights, first + STRETCH)
                comptime for g in range(4):
                    nibbles[g] |= high[g] << 4
                to.words[16 + 32 * chunk + 16 * half](nibbles)
