"""Q8_0: 32 weights share one scale; 8.5 bits a weight."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Rows, low_halves, words
from formats.tile import SCALED_WIDE, WIDE_ZERO, Kind, store_scale, store_wide
from runtime.views import U8, BytePtr


struct Q8_0(WeightFormat):
    """Block: f16 scale, 32 x int8. `weight = scale * q`."""

    comptime NAME: StaticString = "q8_0"
    comptime ID: Int32 = 8
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 34
    comptime KIND = SCALED_WIDE
    comptime ZERO = WIDE_ZERO

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        store_scale(tile, low_halves(words(rows, byte)[0]))
        comptime for half in range(2):
            var values = words(rows, byte + 2 + 16 * half)
            comptime for g in range(4):
                store_wide(
                    tile, 4 * half + g, bitcast[U8, 4 * LANES](values[g])
                )
