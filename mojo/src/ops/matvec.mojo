"""Packed weights times one token: decode.

The same arithmetic as a tile's (`ops/tiles.mojo`), but each weight is multiplied
where it is unpacked, in registers: nothing is written that one token reads.
"""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import Bytes, LANES, Source, Vector
from formats.tile import TILE_COLUMNS, Kind, Sink
from ops.dots import Sums, dot4
from ops.quantize import X_BLOCK_BYTES, X_VALUES
from runtime.views import F32, I8, I32, BytePtr


struct DotSink[kind: Kind, n_tiles: Int](Sink):
    """Multiplies a block of 16 rows with a token's int8 blocks."""

    comptime PARTS = 2 if Self.kind.halves else 1
    """Parts of a tile that have a scale of their own."""

    var x: BytePtr
    """The token's blocks under this block's columns."""
    var sums: Array[Sums, Self.n_tiles * Self.PARTS]
    var scales: Array[Vector, Self.n_tiles * Self.PARTS]
    var mins: Array[Vector, Self.n_tiles * Self.PARTS]

    @always_inline
    def __init__(out self, x: BytePtr, zero: Int32):
        self.x = x
        self.sums = Array[Sums, Self.n_tiles * Self.PARTS](fill=Sums(0))
        self.scales = Array[Vector, Self.n_tiles * Self.PARTS](fill=Vector(0))
        self.mins = Array[Vector, Self.n_tiles * Self.PARTS](fill=Vector(0))
        comptime for tile in range(Self.n_tiles):
            var totals = x.unsafe_offset(tile * X_BLOCK_BYTES).unsafe_bitcast[
                Int16
            ]()
            var first = totals[unsafe_offset=6].cast[I32]()
            var last = totals[unsafe_offset=7].cast[I32]()
            comptime if Self.kind.halves:
                self.sums[2 * tile] = Sums(-zero * first)
                self.sums[2 * tile + 1] = Sums(-zero * last)
            else:
                self.sums[tile] = Sums(-zero * (first + last))

    @always_inline
    def values[tile: Int, group: Int](mut self, values: Bytes):
        comptime part = tile * Self.PARTS + group // 4 * (Self.PARTS - 1)
        var four = self.x.unsafe_offset(
            tile * X_BLOCK_BYTES + X_VALUES + 4 * group
        ).unsafe_bitcast[Int32]()[]
        self.sums[part] = dot4[Self.kind.is_wide](
            self.sums[part], values, bitcast[I8, 4 * LANES](Sums(four))
        )

    @always_inline
    def scale[tile: Int, half: Int](mut self, scale: Vector):
        self.scales[tile * Self.PARTS + half] = scale

    @always_inline
    def min[tile: Int, half: Int](mut self, least: Vector):
        self.mins[tile * Self.PARTS + half] = least

    @always_inline
    def column[index: Int](mut self, weights: Vector):
        pass

    @always_inline
    def add_to(self, mut acc: Vector):
        """Add the block's products to the rows' results, tile by tile."""
        comptime for tile in range(Self.n_tiles):
            var head = self.x.unsafe_offset(
                tile * X_BLOCK_BYTES
            ).unsafe_bitcast[Float32]()
            comptime for half in range(Self.PARTS):
                comptime part = tile * Self.PARTS + half
                var scale = self.scales[part] * head[unsafe_offset=0]
                acc = self.sums[part].cast[F32]().fma(scale, acc)
                comptime if Self.kind.has_min:
                    var total: Float32
                    comptime if Self.kind.halves:
                        total = head[unsafe_offset=1 + half]
                    else:
                        total = head[unsafe_offset=1] + head[unsafe_offset=2]
                    acc = self.mins[part].fma(Vector(total), acc)


@always_inline
def dot_block[
    F: WeightFormat, S: Source
](mut source: S, x: BytePtr, mut acc: Vector):
    """Add the products of one block of 16 rows."""
    comptime n_tiles = F.BLOCK_WEIGHTS // TILE_COLUMNS
    var sink = DotSink[F.KIND, n_tiles](x, Int32(F.ZERO))
    F.unpack(source, sink)
    sink.add_to(acc)
