"""Q4_1: 32 weights share a scale and a minimum; 5 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Source, high_halves, low_halves
from formats.tile import (
    SCALED_MIN,
    Sink,
    put_narrow,
)


struct Q4_1(WeightFormat):
    """Block: f16 scale, f16 min, 16 bytes. `weight = scale * nibble + min`."""

    comptime NAME: StaticString = "q4_1"
    comptime ID: Int32 = 3
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 20
    comptime KIND = SCALED_MIN
    comptime ZERO = 0
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var head = source.word[0]()
        sink.scale[0, 0](low_halves(head))
        sink.min[0, 0](high_halves(head))
        var nibbles = source.words[4]()
        comptime for g in range(4):
            put_narrow[0, g](sink, nibbles[g] & 0x0F0F0F0F)
            put_narrow[0, g + 4](sink, (nibbles[g] >> 4) & 0x0F0F0F0F)
