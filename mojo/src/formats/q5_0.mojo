"""Q5_0: 32 weights share one scale; 5.5 bits a weight."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import (
    LANES,
    Source,
    Words,
    low_halves,
    spread_byte,
)
from formats.tile import (
    SCALED,
    Sink,
)
from runtime.views import U8


@always_inline
def put_five_bits[
    S: Sink, //
](mut sink: S, nibbles: Array[Words, 4], bits: Words):
    """Values of a nibble each, and a fifth bit: bit i of `bits` for column i.

    The nibbles lie as in Q4_0.
    """
    comptime for g in range(8):
        var low = bitcast[U8, 4 * LANES](
            (nibbles[g % 4] >> UInt32(4 * (g // 4))) & 0x0F0F0F0F
        )
        # Each of the word's four values looks at its own bit.
        var mask = bitcast[U8, 4 * LANES](
            Words(0x80402010 if g % 2 else 0x08040201)
        )
        var is_set = (spread_byte[g // 2](bits) & mask).ne(0)
        sink.values[0, g](is_set.select(low | 16, low))


struct Q5_0(WeightFormat):
    """Block: f16 scale, u32 of fifth bits, 16 bytes of nibbles as in Q4_0.

    `weight = scale * (q - 16)`.
    """

    comptime NAME: StaticString = "q5_0"
    comptime ID: Int32 = 6
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 22
    comptime KIND = SCALED
    comptime ZERO = 16
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        sink.scale[0, 0](low_halves(source.half[0]()))
        var bits = source.word[2]()
        put_five_bits(sink, source.words[6](), bits)
