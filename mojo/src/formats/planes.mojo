"""A Q8_0 matrix in two planes: the upper 5 bits of every weight, and the lower 3.

What the certified head (`ops/certified.mojo`) reads for every token are the
upper planes of all rows; the lower ones of a few. Joined they are the weights of
the file again, so every other kernel takes such a matrix as it takes a packed
one.

A weight q, -128 to 127, is `q + 128 = 8 * upper + lower`. First come the upper
planes of all groups of 16 rows, then the lower ones of all. With n blocks of 32
columns, of which each has 8 times 4 columns:

    upper    64         width of each row, float32: see ops/certified.mojo
             32 n       scales: f16 of each row
             320 n      4 vectors: bits 7 .. 4 of columns 4g .. 4g + 3 in the low
                        nibbles and of 4 (g + 4) .. in the high ones; and one:
                        bit 3 of columns 4g .. 4g + 3 as bit g
    lower    192 n      2 vectors: bits 1 .. 0 of columns 4g .. as bits 2g of one
                        for the first half, of another for the second; and one:
                        bit 2, as bit 3 above
"""

from formats.matrix import Matrix
from formats.q8_0 import Q8_0
from formats.rows import LANES, Source, Words
from runtime.views import CACHE_LINE, U16, U32, BytePtr, round_up

comptime PLANES = Int32(2)
"""The number of this layout in mogemma.h."""

comptime WIDTH_BYTES = 4 * LANES
comptime SCALE_BYTES = 2 * LANES
comptime UPPER_BLOCK = 5 * CACHE_LINE
comptime LOWER_BLOCK = 3 * CACHE_LINE

comptime MOST_COLUMNS = 1 << 14
"""No head has more; what is prepared of a token fits a thread's scratch memory."""


def can_split(matrix: Matrix) -> Bool:
    """Whether a matrix has this layout: Q8_0, and scales in whole cache lines."""
    var columns = matrix.columns()
    return (
        matrix.format == Q8_0.ID
        and columns % 64 == 0
        and columns <= MOST_COLUMNS
    )


@always_inline
def n_groups(matrix: Matrix) -> Int:
    return round_up(matrix.rows(), LANES) // LANES


@always_inline
def n_blocks(matrix: Matrix) -> Int:
    return matrix.columns() // Q8_0.BLOCK_WEIGHTS


@always_inline
def upper_bytes(matrix: Matrix) -> Int:
    """Bytes of the upper planes of a group."""
    return WIDTH_BYTES + (SCALE_BYTES + UPPER_BLOCK) * n_blocks(matrix)


@always_inline
def split_bytes(matrix: Matrix) -> Int:
    """Bytes of a matrix in planes."""
    return n_groups(matrix) * (
        upper_bytes(matrix) + LOWER_BLOCK * n_blocks(matrix)
    )


@fieldwise_init
struct Group(TrivialRegisterPassable):
    """Where the planes of 16 rows lie, from some block on."""

    var widths: BytePtr
    var scales: BytePtr
    var upper: BytePtr
    var lower: BytePtr


@always_inline
def group_at(matrix: Matrix, row: Int, block: Int = 0) -> Group:
    """The group that begins at `row`."""
    var group = row // LANES
    var n = n_blocks(matrix)
    var widths = matrix.data.unsafe_value().unsafe_offset(
        group * upper_bytes(matrix)
    )
    var scales = widths.unsafe_offset(WIDTH_BYTES)
    var lower = matrix.data.unsafe_value().unsafe_offset(
        n_groups(matrix) * upper_bytes(matrix)
    )
    return Group(
        widths,
        scales.unsafe_offset(SCALE_BYTES * block),
        scales.unsafe_offset(SCALE_BYTES * n + UPPER_BLOCK * block),
        lower.unsafe_offset(LOWER_BLOCK * (n * group + block)),
    )


@always_inline
def load_words(place: BytePtr, index: Int) -> Words:
    return place.unsafe_bitcast[UInt32]().unsafe_load[
        width=LANES, alignment=64
    ](LANES * index)


@always_inline
def upper_five[group: Int](nibbles: Words, bits: Words) -> Words:
    """The upper 5 bits of four columns, in the bytes of a word."""
    comptime if group >= 4:
        var four = (nibbles >> 3) & 0x1E1E1E1E
        return four | ((bits >> UInt32(group)) & 0x01010101)
    else:
        var four = (nibbles << 1) & 0x1E1E1E1E
        return four | ((bits >> UInt32(group)) & 0x01010101)


@always_inline
def lower_three[group: Int](pairs: Words, bits: Words) -> Words:
    """The lower 3 bits of four columns."""
    comptime shift = 2 * (group % 4)
    var two = (pairs >> UInt32(shift)) & 0x03030303
    comptime if group >= 2:
        return two | ((bits >> UInt32(group - 2)) & 0x04040404)
    else:
        return two | ((bits << UInt32(2 - group)) & 0x04040404)


struct PlaneRows(Source):
    """Sixteen rows of a matrix in planes, joined to the blocks of the file."""

    var at: Group

    @always_inline
    def __init__(out self, at: Group):
        self.at = at

    @always_inline
    def half[byte: Int](mut self) -> Words:
        """The scale, which a block begins with."""
        var v = self.at.scales.unsafe_bitcast[UInt16]().unsafe_load[
            width=LANES, alignment=32
        ]()
        self.at.scales = self.at.scales.unsafe_offset(SCALE_BYTES)
        return v.cast[U32]()

    @always_inline
    def word[byte: Int](mut self) -> Words:
        """Q8_0 reads 16 bytes at a time only."""
        return Words(0)

    @always_inline
    def words[byte: Int](mut self) -> Array[Words, 4]:
        comptime half = (byte - 2) // 16
        var upper_bits = load_words(self.at.upper, 4)
        var lower_bits = load_words(self.at.lower, 2)
        var pairs = load_words(self.at.lower, half)
        var result = Array[Words, 4](fill=Words(0))
        comptime for k in range(4):
            comptime g = 4 * half + k
            var five = upper_five[g](load_words(self.at.upper, k), upper_bits)
            var three = lower_three[g](pairs, lower_bits)
            # Shifted as words, for five bits and three fill a byte.
            result[k] = ((five << 3) | three) ^ 0x80808080
        comptime if half == 1:
            self.at.upper = self.at.upper.unsafe_offset(UPPER_BLOCK)
            self.at.lower = self.at.lower.unsafe_offset(LOWER_BLOCK)
        return result^
