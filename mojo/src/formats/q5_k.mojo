"""Q5_K: Q4_K with a fifth bit; 5.5 bits a weight."""

from formats.format import WeightFormat
from formats.q4_k import put_six_bit_scales
from formats.rows import Source
from formats.tile import (
    SCALED_MIN,
    Sink,
    put_narrow,
)


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
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var head = source.words[0]()
        comptime for index in range(8):
            put_six_bit_scales[index](sink, head)
        comptime for half in range(2):
            var bits = source.words[16 + 16 * half]()
            comptime for chunk in range(4):
                var nibbles = source.words[48 + 32 * chunk + 16 * half]()
                comptime for nibble in range(2):
                    comptime index = 2 * chunk + nibble
                    comptime for g in range(4):
                        var low = (
                            nibbles[g] >> UInt32(4 * nibble)
                        ) & 0x0F0F0F0F
                        var fifth = (bits[g] >> UInt32(index)) & 0x01010101
                        put_narrow[index, 4 * half + g](
                            sink, low | (fifth << 4)
                        )
