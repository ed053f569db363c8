"""BF16: the upper half of a float32."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Source
from formats.tile import FLOAT, TILE_COLUMNS, Sink
from runtime.views import F32


struct BF16(WeightFormat):
    """Little-endian bfloat16."""

    comptime NAME: StaticString = "bf16"
    comptime ID: Int32 = 30
    comptime BLOCK_WEIGHTS = 1
    comptime BLOCK_BYTES = 2
    comptime KIND = FLOAT
    comptime ZERO = 0
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        comptime for eight in range(TILE_COLUMNS // 8):
            var pairs = source.words[16 * eight]()
            comptime for i in range(4):
                var low = bitcast[F32, LANES](pairs[i] << 16)
                var high = bitcast[F32, LANES](pairs[i] & 0xFFFF0000)
                sink.column[8 * eight + 2 * i](low)
                sink.column[8 * eight + 2 * i + 1](high)
