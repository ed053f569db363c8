"""A tile: 16 rows x 32 columns of weights, unpacked for the dot products.

Whatever its format, a stretch of a matrix becomes one of two kinds of tile.

A quantised tile holds small integers and what they stand for,
`weight = scale * (value - zero) + min`:

    byte    0  values, 8 groups of 64 bytes: group g has columns 4g .. 4g + 3,
               four bytes of each row beside each other, as dot products want
    byte  512  scale of columns  0 .. 15, float32 of each row
    byte  576  scale of columns 16 .. 31
    byte  640  min   of columns  0 .. 15
    byte  704  min   of columns 16 .. 31

Which of the last four a format uses is its `Kind`. A float tile holds the
weights themselves, column after column, float32 of each row.
"""

from std.memory import bitcast
from std.sys import CompilationTarget

from formats.rows import Bytes, LANES, Vector, Words
from runtime.views import F32, U32, U8, BytePtr, floats

comptime TILE_COLUMNS = 32
comptime QUANTISED_TILE_BYTES = 768
comptime FLOAT_TILE_BYTES = 4 * LANES * TILE_COLUMNS

comptime UNSIGNED_BYTES = CompilationTarget._has_feature[
    "avx512vnni"
]() or CompilationTarget._has_feature["avxvnni"]()
"""Whether 8-bit weights are stored as 0 .. 255: those dot products take them
unsigned and never saturate. Others (pmaddubsw, sdot) need them signed."""

comptime WIDE_ZERO = 128 if UNSIGNED_BYTES else 0
"""What stands for zero in a tile of 8-bit weights."""


@fieldwise_init
struct Kind(Equatable, TrivialRegisterPassable):
    """Which fields a tile uses; kernels are compiled once per kind."""

    var is_float: Bool
    var has_min: Bool
    var halves: Bool
    """The two halves of the columns have scales (and mins) of their own."""
    var is_wide: Bool
    """Values fill 8 bits; narrower ones are 0 .. 127 signed or not."""

    def __eq__(self, other: Self) -> Bool:
        return (
            self.is_float == other.is_float
            and self.has_min == other.has_min
            and self.halves == other.halves
            and self.is_wide == other.is_wide
        )


comptime FLOAT = Kind(True, False, False, False)
comptime SCALED = Kind(False, False, False, False)
comptime SCALED_WIDE = Kind(False, False, False, True)
comptime SCALED_MIN = Kind(False, True, False, False)
comptime HALVES = Kind(False, False, True, False)
comptime HALVES_MIN = Kind(False, True, True, False)


trait Sink:
    """What becomes of the blocks of 16 rows that a format unpacks."""

    def values[tile: Int, group: Int](mut self, values: Bytes):
        """Columns 4 `group` to 4 `group` + 3 of a tile, as they lie in it."""
        ...

    def scale[tile: Int, half: Int](mut self, scale: Vector):
        """The scale of a tile, or of one half of its columns."""
        ...

    def min[tile: Int, half: Int](mut self, least: Vector):
        """Its minimum."""
        ...

    def column[index: Int](mut self, weights: Vector):
        """A column of a float tile."""
        ...


@always_inline
def put_narrow[S: Sink, //, tile: Int, group: Int](mut sink: S, words: Words):
    """Four columns of values below 128, a word a row."""
    sink.values[tile, group](bitcast[U8, 4 * LANES](words))


@always_inline
def put_wide[S: Sink, //, tile: Int, group: Int](mut sink: S, signed: Bytes):
    """Four columns of signed 8-bit values."""
    comptime if UNSIGNED_BYTES:
        sink.values[tile, group](signed ^ 0x80)
    else:
        sink.values[tile, group](signed)


@fieldwise_init
struct TileSink(Sink, TrivialRegisterPassable):
    """Writes tiles, `step` bytes apart."""

    var tile: BytePtr
    var step: Int

    @always_inline
    def values[tile: Int, group: Int](mut self, values: Bytes):
        self.tile.unsafe_offset(tile * self.step).unsafe_store[alignment=64](
            64 * group, values
        )

    @always_inline
    def put[index: Int](self, tile: Int, x: Vector):
        floats(self.tile.unsafe_offset(tile * self.step)).unsafe_store[
            alignment=64
        ](index, x)

    @always_inline
    def scale[tile: Int, half: Int](mut self, scale: Vector):
        self.put[128 + LANES * half](tile, scale)

    @always_inline
    def min[tile: Int, half: Int](mut self, least: Vector):
        self.put[160 + LANES * half](tile, least)

    @always_inline
    def column[index: Int](mut self, weights: Vector):
        self.put[LANES * index](0, weights)


@always_inline
def load_scale[half: Int](tile: Pointer[UInt8, _]) -> Vector:
    return tile.unsafe_bitcast[Float32]().unsafe_load[
        width=LANES, alignment=64
    ](128 + LANES * half)


@always_inline
def load_min[half: Int](tile: Pointer[UInt8, _]) -> Vector:
    return tile.unsafe_bitcast[Float32]().unsafe_load[
        width=LANES, alignment=64
    ](160 + LANES * half)


@always_inline
def tile_to_float[kind: Kind, zero: Int](tile: BytePtr, weights: BytePtr):
    """Write a quantised tile as a float tile: the weights of the file."""
    comptime for column in range(TILE_COLUMNS):
        comptime half = column // 16 if kind.halves else 0
        var group = bitcast[U32, LANES](
            tile.unsafe_load[width=4 * LANES, alignment=64](64 * (column // 4))
        )
        var shifted = group << UInt32(24 - 8 * (column % 4))
        var value: Vector
        comptime if kind.is_wide and zero == 0:
            value = (bitcast[DType.int32, LANES](shifted) >> 24).cast[F32]()
        else:
            value = (
                bitcast[DType.int32, LANES](shifted >> 24) - Int32(zero)
            ).cast[F32]()
        var weight = load_scale[half](tile) * value
        comptime if kind.has_min:
            weight += load_min[half](tile)
        floats(weights).unsafe_store[alignment=64](LANES * column, weight)
