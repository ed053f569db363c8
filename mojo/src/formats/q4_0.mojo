"""Q4_0: 32 weights share one scale; 4.5 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Source, low_halves
from formats.tile import (
    SCALED,
    Sink,
    put_narrow,
)


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
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        sink.scale[0, 0](low_halves(source.half[0]()))
        var nibbles = source.words[2]()
        comptime for g in range(4):
            put_narrow[0, g](sink, nibbles[g] & 0x0F0F0F0F)
            put_narrow[0, g + 4](sink, (nibbles[g] >> 4) & 0x0F0F0F0F)
