"""Q6_K: 256 weights, an 8-bit scale for each 16; 6.5625 bits a weight."""

from formats.format import WeightFormat
from formats.rows import Rows, Vector, Words, byte_of, high_halves, words
from formats.tile import HALVES, Kind, store_narrow, store_scales
from runtime.views import F32, I32, BytePtr


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

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        # The last 16 bytes of a block end with d.
        var d = high_halves(words(rows, byte + 194)[3])
        var scales = words(rows, byte + 192)
        comptime for index in range(8):
            store_scales(
                tile.unsafe_offset(index * step),
                d * signed_byte[2 * index % 4](scales[index // 2]),
                d * signed_byte[2 * index % 4 + 1](scales[index // 2]),
            )
        comptime for quarter in range(4):
            # Half a group at a time: 16 weights of each row.
            comptime h = quarter // 2
            comptime part = quarter % 2
            var pairs = words(rows, byte + 128 + 32 * h + 16 * part)
            comptime for lane in range(2):
                var nibbles = words(rows, byte + 64 * h + 32 * lane + 16 * part)
                comptime for upper in range(2):
                    comptime k = 2 * upper + lane
                    var to = tile.unsafe_offset((4 * h + k) * step)
                    comptime for g in range(4):
                        var low = (nibbles[g] >> UInt32(4 * upper)) & 0x0F0F0F0F
                        var high = (pairs[g] >> UInt32(2 * k)) & 0x03030303
                        store_narrow(to, 4 * part + g, low | (high << 4))
