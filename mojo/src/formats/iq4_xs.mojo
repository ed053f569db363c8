"""IQ4_XS: IQ4_NL's levels in blocks of 256, a 6-bit scale for each 32."""

from formats.format import WeightFormat
from formats.iq4_nl import levels_of
from formats.rows import Source, low_halves
from formats.tile import (
    SCALED_WIDE,
    Sink,
    WIDE_ZERO,
    put_wide,
)
from runtime.views import F32, I32


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
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var head = source.word[0]()
        var low_scales = source.word[4]()
        var d = low_halves(head)
        comptime for index in range(8):
            var low = (low_scales >> UInt32(4 * index)) & 15
            var high = (head >> UInt32(16 + 2 * index)) & 3
            var scale = (low | (high << 4)).cast[I32]() - 32
            sink.scale[index, 0](d * scale.cast[F32]())
            var nibbles = source.words[8 + 16 * index]()
            comptime for g in range(4):
                put_wide[index, g](sink, levels_of(nibbles[g] & 0x0F0F0F0F))
                put_wide[index, g + 4](
                    sink, levels_of((nibbles[g] >> 4) & 0x0F0F0F0F)
                )
