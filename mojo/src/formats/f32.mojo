"""F32: float32 weights."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Source
from formats.tile import FLOAT, TILE_COLUMNS, Sink
from runtime.views import F32


struct F32_(WeightFormat):
    """Little-endian IEEE single precision."""

    comptime NAME: StaticString = "f32"
    comptime ID: Int32 = 0
    comptime BLOCK_WEIGHTS = 1
    comptime BLOCK_BYTES = 4
    comptime KIND = FLOAT
    comptime ZERO = 0
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        comptime for four in range(TILE_COLUMNS // 4):
            var columns = source.words[16 * four]()
            comptime for i in range(4):
                sink.column[4 * four + i](bitcast[F32, LANES](columns[i]))
