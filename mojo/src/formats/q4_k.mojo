"""Q4_K: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and min."""

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
    SCALED_MIN,
    Kind,
    store_min,
    store_narrow,
    store_scale,
)
from runtime.views import F32, I32, BytePtr


@always_inline
def store_six_bit_scales[index: Int](tile: BytePtr, head: Array[Words, 4]):
    """Scale and min of sub-block `index` from the 16 bytes that begin a block.

    Those are f16 d, f16 dmin, and 8 scales and 8 mins of 6 bits, folded into
    12 bytes: the first four of each in the low 6 bits of bytes 0-3 and 4-7, the
    others in bytes 8-11 with their top bits where the first left room.
    """
    comptime i = index % 4
    var scale: Words
    var least: Words
    comptime if index < 4:
        scale = byte_of[i](head[1]) & 63
        least = byte_of[i](head[2]) & 63
    else:
        var low = byte_of[i](head[3])
        scale = (low & 15) | ((byte_of[i](head[1]) >> 6) << 4)
        least = (low >> 4) | ((byte_of[i](head[2]) >> 6) << 4)
    store_scale(tile, low_halves(head[0]) * scale.cast[I32]().cast[F32]())
    store_min(tile, -(high_halves(head[0]) * least.cast[I32]().cast[F32]()))


struct Q4_K(WeightFormat):
    """Block: f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles.

    `weight = d * scale * nibble - dmin * min`. Chunk c of 32 bytes holds
    sub-block 2c in its low nibbles and 2c + 1 in its high ones.
    """

    comptime NAME: StaticString = "q4_k"
    comptime ID: Int32 = 12
    comptime BLOCK_WEIGHTS = 256
    comptime BLOCK_BYTES = 144
    comptime KIND = SCALED_MIN
    comptime ZERO = 0

    @staticmethod
    @always_inline
    def unpack(rows: Rows, byte: Int, n_columns: Int, tile: BytePtr, step: Int):
        var head = words(rows, byte)
        comptime for chunk in range(4):
            var low = tile.unsafe_offset(2 * chunk * step)
            var high = low.unsafe_offset(step)
            store_six_bit_scales[2 * chunk](low, head)
            store_six_bit_scales[2 * chunk + 1](high, head)
            comptime for half in range(2):
                var nibbles = words(rows, byte + 16 + 32 * chunk + 16 * half)
                comptime for g in range(4):
                    var group = 4 * half + g
                    store_narrow(low, group, nibbles[g] & 0x0F0F0F0F)
                    store_narrow(high, group, (nibbles[g] >> 4) & 0x0F0F0F0F)
