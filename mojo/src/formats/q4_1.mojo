"""Q4_1: 32 weights share a scale and a minimum; 5 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Rows, high_halves, low_halves, words
from formats.tile import (
    SCALED_MIN,
    Kind,
    store_min,
    store_narrow,
    store_scale,
)
from runtime.views import BytePtr


struct Q4_1(WeightFormat):
    """Block: f16 scale, f16 min, 16 bytes. `weight = scale * nibble + min`."""

    comptime NAME: StaticString = "q4_1"
    comptime ID: Int32 = 3
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 20
    comptime KIND = SCALED_MIN
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var head = words(rows, byte)[0]
        store_scale(tile, low_halves(head))
        store_min(tile, high_halves(head))
        var nibbles = words(rows, byte + 4)
        comptime for g in range(4):
            store_narrow(tile, g, nibbles[g] & 0x0F0F0F0F)
            store_narrow(tile, g + 4, (nibbles[g] >> 4) & 0x0F0F0F0F)
