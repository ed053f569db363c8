"""F16: IEEE half precision weights."""

from formats.f32 import store_column, unpack_tail
from formats.format import WeightFormat
from formats.rows import Rows, high_halves, low_halves, words
from formats.tile import FLOAT, TILE_COLUMNS, Kind
from runtime.views import BytePtr


struct F16(WeightFormat):
    """Little-endian IEEE half precision."""

    comptime NAME: StaticString = "f16"
    comptime ID: Int32 = 1
    comptime BLOCK_WEIGHTS = 1
    comptime BLOCK_BYTES = 2
    comptime KIND = FLOAT
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        if n_columns < TILE_COLUMNS:
            unpack_tail[2, low_halves](rows, byte, n_columns, tile)
            return
        comptime for eight in range(TILE_COLUMNS // 8):
            var pairs = words(rows, byte + 16 * eight)
            comptime for i in range(4):
                store_column(tile, 8 * eight + 2 * i, low_halves(pairs[i]))
                store_column(tile, 8 * eight + 2 * i + 1, high_halves(pairs[i]))
