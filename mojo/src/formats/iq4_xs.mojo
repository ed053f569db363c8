"""IQ4_XS: IQ4_NL's levels in blocks of 256, a 6-bit scale for each 32."""

from formats.format import WeightFormat
from formats.iq4_nl import levels_of
from formats.rows import Rows, low_halves, words
from formats.tile import SCALED_WIDE, WIDE_ZERO, Kind, store_scale, store_wide
from runtime.views import F32, I32, BytePtr


struct IQ4_XS(WeightFormat):
    """Block: f16 d, u16 of high scale bits, 4 bytes of low ones, 128 bytes of
    nibbles: 16 bytes a sub-block, as in Q4_0.

    `weight = d * (scale - 32) * LEVELS[nibble]`.
    """

    comptime NAME: StaticString = "iq4_xs"
    comptime ID: Int32 = 23
    comptime BLOCK_WEIGHTS = 256
    comptime BLOCK_BYTES = 136
    comptime KIND = SCALED_WIDE
    comptime ZERO = WIDE_ZERO

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var head = words(rows, byte)
        var d = low_halves(head[0])
        comptime for index in range(8):
            var to = tile.unsafe_offset(index * step)
            var low = (head[1] >> UInt32(4 * index)) & 15
            var high = (head[0] >> UInt32(16 + 2 * index)) & 3
            var scale = (low | (high << 4)).cast[I32]() - 32
            store_scale(to, d * scale.cast[F32]())
            var nibbles = words(rows, byte + 8 + 16 * index)
            comptime for g in range(4):
                store_wide(to, g, levels_of(nibbles[g] & 0x0F0F0F0F))
                store_wide(to, g + 4, levels_of((nibbles[g] >> 4) & 0x0F0F0F0F))
