"""F16: IEEE half precision weights."""

from formats.format import WeightFormat
from formats.rows import Source, high_halves, low_halves
from formats.tile import FLOAT, TILE_COLUMNS, Sink


struct F16(WeightFormat):
    """Little-endian IEEE half precision."""

    comptime NAME: StaticString = "f16"
    comptime ID: Int32 = 1
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
                sink.column[8 * eight + 2 * i](low_halves(pairs[i]))
                sink.column[8 * eight + 2 * i + 1](high_halves(pairs[i]))
