"""Q2_K: 256 weights, a 4-bit scale and min for each 16; 2.625 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Source, Vector, Words, high_halves, low_halves
from formats.tile import (
    HALVES_MIN,
    Sink,
    put_narrow,
)
from runtime.views import F32, I32


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
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var tail = source.word[80]()
        var d = low_halves(tail)
        var dmin = -high_halves(tail)
        var scales = source.words[0]()
        comptime for index in range(8):
            comptime i = 2 * index % 4
            var four = scales[index // 2]
            sink.scale[index, 0](d * nibble[i, False](four))
            sink.scale[index, 1](d * nibble[i + 1, False](four))
            sink.min[index, 0](dmin * nibble[i, True](four))
            sink.min[index, 1](dmin * nibble[i + 1, True](four))
        comptime for quarter in range(4):
            comptime h = quarter // 2
            comptime part = quarter % 2
            var pairs = source.words[16 + 32 * h + 16 * part]()
            comptime for k in range(4):
                comptime for g in range(4):
                    put_narrow[4 * h + k, 4 * part + g](
                        sink, (pairs[g] >> UInt32(2 * k)) & 0x03030303
                    )
