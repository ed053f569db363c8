"""MXFP4: 32 weights of 4-bit floating point share a power of two (OCP MX)."""

from std.memory import bitcast

from formats.format import WeightFormat
from formats.rows import LANES, Source, Vector, Words
from formats.tile import (
    SCALED,
    Sink,
)
from runtime.views import F32, U8

comptime SHIFTED = SIMD[U8, 16](
    12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0
)
"""Twice the e2m1 values 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives, + 12."""


@always_inline
def power_of_two(exponent: Words) -> Vector:
    """2 to the power `exponent` - 128; the two least are subnormal."""
    var normal = (exponent - 1) << 23
    var subnormal = Words(0x200000) << exponent
    return bitcast[F32, LANES](exponent.lt(2).select(subnormal, normal))


struct MXFP4(WeightFormat):
    """Block: u8 exponent, 16 bytes of nibbles as in Q4_0.

    `weight = 2 ** (e - 128) * (SHIFTED[nibble] - 12)`.
    """

    comptime NAME: StaticString = "mxfp4"
    comptime ID: Int32 = 39
    comptime BLOCK_WEIGHTS = 32
    comptime BLOCK_BYTES = 17
    comptime KIND = SCALED
    comptime ZERO = 12
    comptime N_HALVES = 1

    @staticmethod
    @always_inline
    def unpack[S: Source, K: Sink](mut source: S, mut sink: K):
        sink.scale[0, 0](power_of_two(source.half[0]() & 0xFF))
        var nibbles = source.words[1]()
        comptime for g in range(8):
            var four = (nibbles[g % 4] >> UInt32(4 * (g // 4))) & 0x0F0F0F0F
            sink.values[0, g](
                SHIFTED._dynamic_shuffle(bitcast[U8, 4 * LANES](four))
            )
