"""Splits a stored Q8_0 matrix into planes (`formats/planes.mojo`), once."""

from std.math import sqrt
from std.memory import bitcast

from formats.matrix import Matrix
from formats.planes import (
    LOWER_BLOCK,
    SCALE_BYTES,
    UPPER_BLOCK,
    Group,
    group_at,
    n_blocks,
)
from formats.q8_0 import Q8_0
from formats.rows import (
    Bytes,
    LANES,
    StoredRows,
    Vector,
    Words,
    low_halves,
)
from ops.certified import row_width
from ops.dots import Sums, Values, dot_unsigned
from runtime.threads import TeamPtr
from runtime.views import F32, I8, U16, U8, floats


@always_inline
def store_words(place: Pointer[mut=True, UInt8, _], index: Int, v: Words):
    place.unsafe_bitcast[UInt32]().unsafe_store(LANES * index, v)


@always_inline
def split_block(mut rows: StoredRows, to: Group) -> Vector:
    """Write a block of 16 rows; gives 4 * sum((lower - 3.5) ** 2) of each."""
    var first = rows.words[2]()
    var second = rows.words[18]()
    var nibbles = Array[Words, 4](fill=Words(0))
    var upper_bits = Words(0)
    var pairs = Array[Words, 2](fill=Words(0))
    var lower_bits = Words(0)
    var squares = Sums(0)
    var total = Sums(0)
    comptime for g in range(8):
        var u = (first[g] if g < 4 else second[g % 4]) ^ 0x80808080
        var four = (u >> 4) & 0x0F0F0F0F
        nibbles[g % 4] |= four << UInt32(g // 4 * 4)
        upper_bits |= ((u >> 3) & 0x01010101) << UInt32(g)
        pairs[g // 4] |= (u & 0x03030303) << UInt32(2 * (g % 4))
        lower_bits |= ((u >> 2) & 0x01010101) << UInt32(g)
        var lower = bitcast[U8, 4 * LANES](u & 0x07070707)
        squares = dot_unsigned(squares, lower, bitcast[I8, 4 * LANES](lower))
        total = dot_unsigned(total, lower, Values(1))
    comptime for k in range(4):
        store_words(to.upper, k, nibbles[k])
    store_words(to.upper, 4, upper_bits)
    store_words(to.lower, 0, pairs[0])
    store_words(to.lower, 1, pairs[1])
    store_words(to.lower, 2, lower_bits)
    return (4 * squares - 28 * total + 49 * Q8_0.BLOCK_WEIGHTS).cast[F32]()


def split_group(matrix: Matrix, planes: Matrix, row: Int):
    """Split the 16 rows from `row` on."""
    var rows = matrix.stored[Q8_0](row, 0)
    var to = group_at(planes, row)
    var residuals = Vector(0)
    var scales = Vector(0)
    for _ in range(n_blocks(matrix)):
        var halves = rows.half[0]()
        to.scales.unsafe_bitcast[UInt16]().unsafe_store(0, halves.cast[U16]())
        var scale = low_halves(halves)
        var squares = scale * scale
        scales += squares
        residuals = squares.fma(split_block(rows, to) * 0.25, residuals)
        rows.move_to(rows.base.unsafe_offset(Q8_0.BLOCK_BYTES))
        to.scales = to.scales.unsafe_offset(SCALE_BYTES)
        to.upper = to.upper.unsafe_offset(UPPER_BLOCK)
        to.lower = to.lower.unsafe_offset(LOWER_BLOCK)
    floats(to.widths).unsafe_store(
        0, row_width(residuals, scales, n_blocks(matrix))
    )


def share_splitting(
    team: TeamPtr, matrix: Matrix, planes: Matrix, first: Int, end: Int
):
    """This thread's part of splitting rows `first` to `end` - 1.

    Threads take groups of 16 rows, which `first` is a multiple of.
    """
    var row = first + team[].take() * LANES
    while row < end:
        split_group(matrix, planes, row)
        row = first + team[].take() * LANES
