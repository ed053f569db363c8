"""Q4_0: 32 weights share one scale; 4.5 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Rows, low_halves, words
from formats.tile import SCALED, Kind, store_narrow, store_scale
from runtime.views import BytePtr


struct Q4_0(WeightFormat):
    """Block: f16 scale, 16 bytes. `weight = scale * (nibble - 8)`.

    Byte b holds weight b in its low nibble and weight b + 16 in its high one.
    """

    comptime NAME: StaticString = "q4_0"
    comptime ID: Int32 = 2
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 18
    comptime KIND = SCALED
    comptime ZERO = 8

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        store_scale(tile, low_halves(words(rows, byte)[0]))
        var nibbles = words(rows, byte + 2)
        comptime for g in range(4):
            store_narrow(tile, g, nibbles[g] & 0x0F0F0F0F)
            store_narrow(tile, g + 4, (nibbles[g] >> 4) & 0x0F0F0F0F)
