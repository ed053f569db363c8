"""Q2_K: 256 weights, a 4-bit scale and min for each 16; 2.625 bits a weight."""

from formats.format import WeightFormat
from formats.rows import (
    Rows,
    Vector,
    Words,
    byte_of,
    high_halves,
    low_halves,
    words,
)
from formats.tile import (
    HALVES_MIN,
    Kind,
    store_mins,
    store_narrow,
    store_scales,
)
from runtime.views import F32, I32, BytePtr


@always_inline
def nibble[index: Int, high: Bool](words: Words) -> Vector:
    """A nibble of byte `index` of each word."""
    comptime shift = 8 * index + (4 if high else 0)
    return ((words >> UInt32(shift)) & 15).cast[I32]().cast[F32]()


struct Q2_K(WeightFormat):
    """Block: 16 bytes of scales (low nibble) and mins (high), 64 bytes of bit
    pairs, f16 d, f16 dmin. `weight = d * scale * q - dmin * min`.

    Group k of half h has its pairs at bits 2k of bytes 32h on.
    """

    comptime NAME: StaticString = "q2_k"
    comptime ID: Int32 = 10
    comptime BLOCK_WEIGHTS = 256
    comptime BLOCK_BYTES = 84
    comptime KIND = HALVES_MIN
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var tail = words(rows, byte + 68)[3]
        var d = low_halves(tail)
        var dmin = -high_halves(tail)
        var scales = words(rows, byte)
        comptime for index in range(8):
            comptime i = 2 * index % 4
            var four = scales[index // 2]
            var to = tile.unsafe_offset(index * step)
            store_scales(
                to, d * nibble[i, False](four), d * nibble[i + 1, False](four)
            )
            store_mins(
                to,
                dmin * nibble[i, True](four),
                dmin * nibble[i + 1, True](four),
            )
        comptime for quarter in range(4):
            comptime h = quarter // 2
            comptime part = quarter % 2
            var pairs = words(rows, byte + 16 + 32 * h + 16 * part)
            comptime for k in range(4):
                var to = tile.unsafe_offset((4 * h + k) * step)
                comptime for g in range(4):
                    store_narrow(
                        to,
                        4 * part + g,
                        (pairs[g] >> UInt32(2 * k)) & 0x03030303,
                    )
