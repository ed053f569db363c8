"""Q8_0: 32 weights share one scale; 8.5 bits a weight."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Source, low_halves
from formats.tile import (
    SCALED_WIDE,
    Sink,
    WIDE_ZERO,
    put_wide,
)
from runtime.views import U8


struct Q8_0(WeightFormat):
    """Block: f16 scale, 32 x int8. `weight = scale * q`."""

    comptime NAME: StaticString = "q8_0"
    comptime ID: Int32 = 8
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 34
    comptime KIND = SCALED_WIDE
    comptime ZERO = WIDE_ZERO
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        sink.scale[0, 0](low_halves(source.half[0]()))
        comptime for half in range(2):
            var values = source.words[2 + 16 * half]()
            comptime for g in range(4):
                put_wide[0, 4 * half + g](
                    sink, bitcast[U8, 4 * LANES](values[g])
                )
