"""Float weights as other floats: rounded to the nearest, or the even one."""

from std.memory import bitcast

from formats.bf16 import BF16
from formats.f16 import F16
from formats.f32 import F32_
from formats.rows import LANES, Words
from formats.target import Target
from formats.tile import TILE_COLUMNS
from ops.bfloat16 import pair
from ops.encoder import LARGEST_HALF, Encoder, column, half_of
from runtime.views import U32, BytePtr


struct ToF32(Encoder):
    """Float32, of which every float16 and bfloat16 is one."""

    comptime Format = F32_
    comptime COLUMNS = TILE_COLUMNS
    comptime LARGEST = Float32.MAX_FINITE

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        comptime for four in range(TILE_COLUMNS // 4):
            var words = Array[Words, 4](fill=Words(0))
            comptime for i in range(4):
                words[i] = bitcast[U32, LANES](column(weights, 4 * four + i))
            to.words[16 * four](words)


struct ToF16(Encoder):
    """The nearest float16, or the even one."""

    comptime Format = F16
    comptime COLUMNS = TILE_COLUMNS
    comptime LARGEST = LARGEST_HALF

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        comptime for eight in range(TILE_COLUMNS // 8):
            var words = Array[Words, 4](fill=Words(0))
            comptime for i in range(4):
                comptime at = 8 * eight + 2 * i
                words[i] = half_of(column(weights, at)) | (
                    half_of(column(weights, at + 1)) << 16
                )
            to.words[16 * eight](words)


struct ToBF16(Encoder):
    """The nearest bfloat16, or the even one."""

    comptime Format = BF16
    comptime COLUMNS = TILE_COLUMNS
    # What is nearer to the next power of two than this would be infinite.
    comptime LARGEST = Float32(3.3895314e38)

    @staticmethod
    @always_inline
    def encode[T: Target](weights: BytePtr, mut to: T):
        comptime for eight in range(TILE_COLUMNS // 8):
            var words = Array[Words, 4](fill=Words(0))
            comptime for i in range(4):
                comptime at = 8 * eight + 2 * i
                words[i] = pair(column(weights, at), column(weights, at + 1))
            to.words[16 * eight](words)
