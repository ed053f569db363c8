"""Q6_K: 256 weights, an 8-bit scale for each 16; 6.5625 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Source, Vector, Words, low_halves
from formats.tile import (
    HALVES,
    Sink,
    put_narrow,
)
from runtime.views import F32, I32


@always_inline
def signed_byte[index: Int](words: Words) -> Vector:
    """Byte `index` of each word as a signed number."""
    var shifted = (words << UInt32(24 - 8 * index)).cast[I32]()
    return (shifted >> 24).cast[F32]()


struct Q6_K(WeightFormat):
    """Block: 128 bytes of low nibbles, 64 of high bit pairs, 16 x int8 scales,
    f16 d. `weight = d * scale * (q - 32)`.

    Half h of the block is four groups of 32 weights: group k has its nibbles in
    bytes 64h + 32 (k mod 2) on (low ones for k < 2), its bit pairs at bits 2k
    of bytes 32h on.
    """

    comptime NAME: StaticString = "q6_k"
    comptime ID: Int32 = 14
    comptime BLOCK_WEIGHTS = 256
    comptime BLOCK_BYTES = 210
    comptime KIND = HALVES
    comptime ZERO = 32
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var d = low_halves(source.half[208]())
        var scales = source.words[192]()
        comptime for index in range(8):
            sink.scale[index, 0](
                d * signed_byte[2 * index % 4](scales[index // 2])
            )
            sink.scale[index, 1](
                d * signed_byte[2 * index % 4 + 1](scales[index // 2])
            )
        comptime for quarter in range(4):
            # Half a group at a time: 16 weights of each row.
            comptime h = quarter // 2
            comptime part = quarter % 2
            var pairs = source.words[128 + 32 * h + 16 * part]()
            comptime for lane in range(2):
                var nibbles = source.words[64 * h + 32 * lane + 16 * part]()
                comptime for upper in range(2):
                    comptime k = 2 * upper + lane
                    comptime for g in range(4):
                        var low = (nibbles[g] >> UInt32(4 * upper)) & 0x0F0F0F0F
                        var high = (pairs[g] >> UInt32(2 * k)) & 0x03030303
                        put_narrow[4 * h + k, 4 * part + g](
                            sink, low | (high << 4)
                        )
