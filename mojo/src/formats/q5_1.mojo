"""Q5_1: 32 weights share a scale and a minimum; 6 bits a weight."""

from formats.format import WeightFormat
from formats.q5_0 import store_five_bits
from formats.rows import Rows, high_halves, low_halves, words
from formats.tile import SCALED_MIN, Kind, store_min, store_scale
from runtime.views import BytePtr


struct Q5_1(WeightFormat):
    """Block: f16 scale, f16 min, u32 of fifth bits, 16 bytes of nibbles.

    `weight = scale * q + min`.
    """

    comptime NAME: StaticString = "q5_1"
    comptime ID: Int32 = 7
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 24
    comptime KIND = SCALED_MIN
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var head = words(rows, byte)
        store_scale(tile, low_halves(head[0]))
        store_min(tile, high_halves(head[0]))
        store_five_bits(tile, words(rows, byte + 8), head[1])
