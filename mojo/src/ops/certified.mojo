"""The certified head: which rows of a matrix in planes can be among the k best.

A logit is w . x. The upper planes of a row give an approximation of it, a . x
with a = w - r, from five eighths of the bytes. What they leave out is bounded by
Cauchy and Schwarz: r . x <= |r| |x|. So a row whose `a . x + |r| |x|` is below
the k-th best logit that is known is not among the k best: it need not be
finished. docs/certified-head.md has the whole argument; here is the arithmetic.

Real numbers are not what is compared. Both the approximation and the logit are
sums of n blocks in float32, each wrong by less than (n + 2) 2^-24 |w| |x|, and a
logit whose rounding puts it among the k best has to be found. `SLACK` allows for
that several times over.
"""

from std.math import sqrt
from std.memory import bitcast
from std.sys import PrefetchOptions, prefetch
from std.utils.numerics import inf

from formats.matrix import Matrix
from formats.planes import (
    LOWER_BLOCK,
    SCALE_BYTES,
    UPPER_BLOCK,
    WIDTH_BYTES,
    Group,
    PlaneRows,
    group_at,
    load_words,
    n_blocks,
    upper_five,
)
from formats.q8_0 import Q8_0
from formats.rows import LANES, Vector, low_halves
from ops.dots import Sums, Values, dot_unsigned
from ops.matmul import Prefetcher
from ops.matvec import dot_block
from ops.quantize import BLOCK, X_BLOCK_BYTES, X_VALUES
from runtime.views import CACHE_LINE, F32, I8, I32, U8, BytePtr, F32Ptr, floats

comptime TINY = Float32(1e-28)
"""More than products that vanish below the least float32 add up to."""


@always_inline
def slack_of(n_blocks: Int) -> Float32:
    """Roundings of a sum of so many blocks, with room for those of a bound."""
    return Float32(n_blocks + 16) * Float32(2.0**-23)


def row_width(residuals: Vector, scales: Vector, n_blocks: Int) -> Vector:
    """What a logit can be above its approximation, for |x| = 1: |r| and slack.

    Args:
        residuals: |r|^2 of each row.
        scales: Sum of its scales squared, from which |w| is bounded.
        n_blocks: Blocks of 32 columns.
    """
    var r = sqrt(residuals)
    # No weight is more than 128 scales.
    var w = sqrt(scales * Float32(128 * 128 * Q8_0.BLOCK_WEIGHTS))
    return (r + slack_of(n_blocks) * (2 * w + r)) * (1 + Float32(2.0**-16))


def token_width(x: BytePtr, n_blocks: Int) -> Float32:
    """|x| of a token's int8 blocks, rounded up; in float64, which has room for
    the square of any float32. Infinite where a logit may be too great for one:
    then every row is finished."""
    var total = Float64(0)
    for b in range(n_blocks):
        var block = x.unsafe_offset(X_BLOCK_BYTES * b)
        var q = (
            block.unsafe_bitcast[Int8]()
            .unsafe_load[width=BLOCK](X_VALUES)
            .cast[I32]()
        )
        var scale = Float64(floats(block)[unsafe_offset=0])
        total += scale * scale * Float64((q * q).reduce_add())
    var width = Float32(sqrt(total)) * (1 + Float32(2.0**-16)) + TINY
    # No row is longer than so many weights of 128 times the greatest float16.
    var longest = sqrt(Float32(BLOCK * n_blocks)) * Float32(128 * 65504)
    return width if 4 * longest * width < inf[F32]() else inf[F32]()


def prepare(x: BytePtr, n_blocks: Int, starts: BytePtr):
    """For each block of a token what `score_group` begins with.

    With q + 128 = 8 upper + lower, and 3.5 in place of lower, twice a weight is
    16 upper - 249: the second part is the same for all rows.

    Args:
        x: The token's int8 blocks.
        n_blocks: How many.
        starts: Result, 8 bytes a block: -249 * sum of the values as int32, and
            half the scale as float32.
    """
    for b in range(n_blocks):
        var block = x.unsafe_offset(X_BLOCK_BYTES * b)
        var q = (
            block.unsafe_bitcast[Int8]()
            .unsafe_load[width=BLOCK](X_VALUES)
            .cast[I32]()
        )
        var to = starts.unsafe_offset(8 * b)
        to.unsafe_bitcast[Int32]()[] = -249 * q.reduce_add()
        floats(to)[unsafe_offset=1] = floats(block)[unsafe_offset=0] * 0.5


@always_inline
def score_group(
    at: Group,
    x: BytePtr,
    starts: BytePtr,
    n_blocks: Int,
    width: Float32,
    mut fetch: Prefetcher,
) -> Vector:
    """What the logits of 16 rows are at most."""
    var acc = Vector(0)
    var group = at
    var block = x
    fetch.step(WIDTH_BYTES)
    for b in range(n_blocks):
        fetch.step(SCALE_BYTES + UPPER_BLOCK)
        var bits = load_words(group.upper, 4)
        var sums = Sums(0)
        comptime for g in range(8):
            var five = upper_five[g](load_words(group.upper, g % 4), bits)
            var four = block.unsafe_offset(X_VALUES + 4 * g).unsafe_bitcast[
                Int32
            ]()[]
            sums = dot_unsigned(
                sums,
                bitcast[U8, 4 * LANES](five),
                bitcast[I8, 4 * LANES](Sums(four)),
            )
        var start = starts.unsafe_offset(8 * b)
        sums = (sums << 4) + start.unsafe_bitcast[Int32]()[]
        var halves = group.scales.unsafe_bitcast[Float16]().unsafe_load[
            width=LANES, alignment=32
        ]()
        var scale = halves.cast[F32]() * floats(start)[unsafe_offset=1]
        acc = sums.cast[F32]().fma(scale, acc)
        group.scales = group.scales.unsafe_offset(SCALE_BYTES)
        group.upper = group.upper.unsafe_offset(UPPER_BLOCK)
        block = block.unsafe_offset(X_BLOCK_BYTES)
    var widths = floats(at.widths).unsafe_load[width=LANES, alignment=64]()
    return widths.fma(Vector(width), acc) + TINY


@always_inline
def fetch_lines[n_bytes: Int](place: BytePtr):
    """Have the cache fetch what is read soon."""
    comptime for byte in range(0, n_bytes, CACHE_LINE):
        prefetch[PrefetchOptions().for_read().high_locality()](
            place.unsafe_offset(byte)
        )


@always_inline
def finish_group(at: Group, next: Group, x: BytePtr, n_blocks: Int) -> Vector:
    """The logits of 16 rows: as `ops/matmul.mojo` computes them, to the bit.

    Such groups lie anywhere: meanwhile the `next` is fetched.
    """
    var acc = Vector(0)
    var rows = PlaneRows(at)
    var block = x
    for b in range(n_blocks):
        fetch_lines[UPPER_BLOCK](next.upper.unsafe_offset(UPPER_BLOCK * b))
        fetch_lines[LOWER_BLOCK](next.lower.unsafe_offset(LOWER_BLOCK * b))
        fetch_lines[SCALE_BYTES](next.scales.unsafe_offset(SCALE_BYTES * b))
        dot_block[Q8_0](rows, block, acc)
        block = block.unsafe_offset(X_BLOCK_BYTES)
    return acc
