"""Q5_1: 32 weights share a scale and a minimum; 6 bits a weight."""

from formats.format import WeightFormat
from formats.q5_0 import put_five_bits
from formats.rows import Source, high_halves, low_halves
from formats.tile import (
    SCALED_MIN,
    Sink,
)


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
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var head = source.word[0]()
        sink.scale[0, 0](low_halves(head))
        sink.min[0, 0](high_halves(head))
        var bits = source.word[4]()
        put_five_bits(sink, source.words[8](), bits)
