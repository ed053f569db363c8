"""Q3_K: 256 weights, a 6-bit scale for each 16; 3.4375 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Rows, Vector, Words, byte_of, high_halves, words
from formats.tile import HALVES, Kind, store_narrow, store_scales
from runtime.views import F32, I32, BytePtr


@always_inline
def six_bit_scale[k: Int](packed: Array[Words, 4]) -> Vector:
    """Scale k, -32 .. 31, of 16 in 12 bytes (words 1 to 3 of `packed`).

    Its low nibble is in byte k mod 8 (the high half of it for k >= 8), its top
    two bits are at 2 (k / 4) of byte 8 + k mod 4.
    """
    comptime low_byte = k % 8
    var low = byte_of[low_byte % 4](packed[1 + low_byte // 4])
    var high = byte_of[k % 4](packed[3]) >> UInt32(2 * (k // 4))
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

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var d = high_halves(words(rows, byte + 94)[3])
        # 16 bytes that end where the scales do.
        var packed = words(rows, byte + 92)
        comptime for index in range(8):
            store_scales(
                tile.unsafe_offset(index * step),
                d * six_bit_scale[2 * index](packed),
                d * six_bit_scale[2 * index + 1](packed),
            )
        comptime for part in range(2):
            var thirds = words(rows, byte + 16 * part)
            comptime for h in range(2):
                var pairs = words(rows, byte + 32 + 32 * h + 16 * part)
                comptime for k in range(4):
                    var to = tile.unsafe_offset((4 * h + k) * step)
                    comptime for g in range(4):
                        var low = (pairs[g] >> UInt32(2 * k)) & 0x03030303
                        var third = (
                            thirds[g] >> UInt32(4 * h + k)
                        ) & 0x01010101
                        store_narrow(to, 4 * part + g, low | (third << 2))
