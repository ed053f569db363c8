"""Q5_K: Q4_K with a fifth bit; 5.5 bits a weight."""

from formats.format import WeightFormat
from formats.q4_k import store_six_bit_scales
from formats.rows import Rows, words
from formats.tile import SCALED_MIN, Kind, store_narrow
from runtime.views import BytePtr


struct Q5_K(WeightFormat):
    """Block: f16 d, f16 dmin, 12 bytes of scales, 32 bytes of fifth bits (bit j
    of byte l for weight l of sub-block j), 128 bytes of nibbles as in Q4_K.

    `weight = d * scale * q - dmin * min`.
    """

    comptime NAME: StaticString = "q5_k"
    comptime ID: Int32 = 13
    comptime BLOCK_WEIGHTS = 256
    comptime BLOCK_BYTES = 176
    comptime KIND = SCALED_MIN
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var head = words(rows, byte)
        comptime for index in range(8):
            store_six_bit_scales[index](tile.unsafe_offset(index * step), head)
        comptime for half in range(2):
            var bits = words(rows, byte + 16 + 16 * half)
            comptime for chunk in range(4):
                var nibbles = words(rows, byte + 48 + 32 * chunk + 16 * half)
                comptime for nibble in range(2):
                    comptime index = 2 * chunk + nibble
                    comptime for g in range(4):
                        var low = (
                            nibbles[g] >> UInt32(4 * nibble)
                        ) & 0x0F0F0F0F
                        var fifth = (bits[g] >> UInt32(index)) & 0x01010101
                        store_narrow(
                            tile.unsafe_offset(index * step),
                            4 * half + g,
                            low | (fifth << 4),
                        )
