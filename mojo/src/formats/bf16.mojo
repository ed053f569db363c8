"""BF16: the upper half of a float32."""

from std.memory import bitcast

from formats.f32 import store_column, unpack_tail
from formats.format import WeightFormat
from formats.rows import LANES, Rows, Vector, Words, words
from formats.tile import FLOAT, TILE_COLUMNS, Kind
from runtime.views import F32, BytePtr


@always_inline
def from_bf16_bits(bits: Words) -> Vector:
    """The bfloat16 in the low half of each word."""
    return bitcast[F32, LANES](bits << 16)


struct BF16(WeightFormat):
    """Little-endian bfloat16."""

    comptime NAME: StaticString = "bf16"
    comptime ID: Int32 = 30
    comptime BLOCK_WEIGHTS = 1
    comptime BLOCK_BYTES = 2
    comptime KIND = FLOAT
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        if n_columns < TILE_COLUMNS:
            unpack_tail[2, from_bf16_bits](rows, byte, n_columns, tile)
            return
        comptime for eight in range(TILE_COLUMNS // 8):
            var pairs = words(rows, byte + 16 * eight)
            comptime for i in range(4):
                var low = from_bf16_bits(pairs[i])
                var high = bitcast[F32, LANES](pairs[i] & 0xFFFF0000)
                store_column(tile, 8 * eight + 2 * i, low)
                store_column(tile, 8 * eight + 2 * i + 1, high)
