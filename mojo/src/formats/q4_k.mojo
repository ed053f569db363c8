"""Q4_K: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and min."""

from formats.format import WeightFormat
from formats.rows import Source, Words, byte_of, high_halves, low_halves
from formats.tile import (
    SCALED_MIN,
    Sink,
    put_narrow,
)
from runtime.views import F32, I32


@always_inline
def put_six_bit_scales[
    S: Sink, //, index: Int
](mut sink: S, head: Array[Words, 4]):
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
    sink.scale[index, 0](low_halves(head[0]) * scale.cast[I32]().cast[F32]())
    sink.min[index, 0](-(high_halves(head[0]) * least.cast[I32]().cast[F32]()))


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
    comptime N_HALVES = 0

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        var head = source.words[0]()
        comptime for chunk in range(4):
            comptime low = 2 * chunk
            comptime high = 2 * chunk + 1
            put_six_bit_scales[low](sink, head)
            put_six_bit_scales[high](sink, head)
            comptime for half in range(2):
                var nibbles = source.words[16 + 32 * chunk + 16 * half]()
                comptime for g in range(4):
                    comptime group = 4 * half + g
                    put_narrow[low, group](sink, nibbles[g] & 0x0F0F0F0F)
                    put_narrow[high, group](
                        sink, (nibbles[g] >> 4) & 0x0F0F0F0F
                    )
