"""IQ4_NL: 32 weights share one scale, each one of 16 uneven levels."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import Bytes, LANES, Source, Words, low_halves
from formats.tile import (
    SCALED_WIDE,
    Sink,
    WIDE_ZERO,
    put_wide,
)
from runtime.views import I8, U8

comptime LEVELS = SIMD[I8, 16](
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
)


@always_inline
def levels_of(nibbles: Words) -> Bytes:
    """The level that each byte, 0 to 15, stands for."""
    return bitcast[U8, 16](LEVELS)._dynamic_shuffle(
        bitcast[U8, 4 * LANES](nibbles)
    )


struct IQ4_NL(WeightFormat):
    """Block: f16 scale, 16 bytes of nibbles as in Q4_0.

    `weight = scale * LEVELS[nibble]`.
    """

    comptime NAME: StaticString = "iq4_nl"
    comptime ID: Int32 = 20
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 18
    comptime KIND = SCALED_WIDE
    comptime ZERO = WIDE_ZERO
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        sink.scale[0, 0](low_halves(source.half[0]()))
        var nibbles = source.words[2]()
        comptime for g in range(4):
            put_wide[0, g](sink, levels_of(nibbles[g] & 0x0F0F0F0F))
            put_wide[0, g + 4](sink, levels_of((nibbles[g] >> 4) & 0x0F0F0F0F))
