"""Q3_K: 256 weights, a 6-bit scale for each 16; 3.4375 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Source, Vector, Words, byte_of, low_halves
from formats.tile import (
    HALVES,
    Sink,
    put_narrow,
)
from runtime.views import F32, I32


@always_inline
def six_bit_scale[k: Int](packed: Array[Words, 3]) -> Vector:
    """Scale k, -32 .. 31, of 16 in 12 bytes.

    Its low nibble is in byte k mod 8 (the high half of it for k >= 8), its top
    two bits are at 2 (k / 4) of byte 8 + k mod 4.
    """
    comptime low_byte = k % 8
    var low = byte_of[low_byte % 4](packed[low_byte // 4])
    var high = byte_of[k % 4](packed[2]) >> UInt32(2 * (k // 4))
    var scale = ((low >> UInt32(4 * (k // 8))) & 15) | ((high & 3) << 4)
    return (scale.cast[I32]() - 32).cast[F32]()


struct Q3_K(WeightFormat):
    """Block: 32 bytes of third bits, 64 bytes of bit pairs, 12 bytes of scales,
    f16 d. `weight = d * scale * (q - 4)`.

    Group k of half h has its pairs at bits 2k of bytes 32h on, its third bits
    at bit 4h + k.
    """

    comptime NAME: StaticString = "q3_k"
    comptime ID: Int32 = 11
    comptime BLOCK_WEIGHTS = 256
    comptime BLOCK_BYTES = 110
    comptime KIND = HALVES
    comptime ZERO = 4
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var d = low_halves(source.half[108]())
        var packed = Array[Words, 3](fill=source.word[96]())
        packed[1] = source.word[100]()
        packed[2] = source.word[104]()
        comptime for index in range(8):
            sink.scale[index, 0](d * six_bit_scale[2 * index](packed))
            sink.scale[index, 1](d * six_bit_scale[2 * index + 1](packed))
        comptime for part in range(2):
            var thirds = source.words[16 * part]()
            comptime for h in range(2):
                var pairs = source.words[32 + 32 * h + 16 * part]()
                comptime for k in range(4):
                    comptime for g in range(4):
                        var low = (pairs[g] >> UInt32(2 * k)) & 0x03030303
                        var third = (
                            thirds[g] >> UInt32(4 * h + k)
                        ) & 0x01010101
                        put_narrow[4 * h + k, 4 * part + g](
                            sink, low | (third << 2)
                        )
