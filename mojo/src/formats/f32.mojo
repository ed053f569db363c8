"""F32: float32 weights, and how rows of floats become tiles."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Rows, Vector, Words, words
from formats.tile import FLOAT, TILE_COLUMNS, Kind
from runtime.views import F32, BytePtr, floats


@always_inline
def store_column(tile: BytePtr, column: Int, weights: Vector):
    floats(tile).unsafe_store[alignment=64](LANES * column, weights)


@always_inline
def unpack_tail[
    bytes_each: Int, decode: def(Words) thin -> Vector
](rows: Rows, byte: Int, n_columns: Int, tile: BytePtr):
    """Fewer than 32 columns, one at a time; the others become zeros."""
    for column in range(TILE_COLUMNS):
        var raw = Words(0)
        if column < n_columns:
            comptime for r in range(LANES):
                var at = rows.base.unsafe_offset(
                    rows.offsets[r] + byte + bytes_each * column
                )
                comptime for i in range(bytes_each):
                    raw[r] |= UInt32(at[unsafe_offset=i]) << UInt32(8 * i)
        store_column(tile, column, decode(raw))


@always_inline
def from_f32_bits(bits: Words) -> Vector:
    return bitcast[F32, LANES](bits)


struct F32_(WeightFormat):
    """Little-endian IEEE single precision."""

    comptime NAME: StaticString = "f32"
    comptime ID: Int32 = 0
    comptime BLOCK_WEIGHTS = 1
    comptime BLOCK_BYTES = 4
    comptime KIND = FLOAT
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        if n_columns < TILE_COLUMNS:
            unpack_tail[4, from_f32_bits](rows, byte, n_columns, tile)
            return
        comptime for four in range(TILE_COLUMNS // 4):
            var columns = words(rows, byte + 16 * four)
            comptime for i in range(4):
                store_column(tile, 4 * four + i, from_f32_bits(columns[i]))
