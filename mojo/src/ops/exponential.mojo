"""The exponential function of float32 vectors, without rules for special cases."""

from std.memory import bitcast

from runtime.views import F32, U32

comptime LOG2_E = Float32(1.4426950408889634)
comptime LN_2_HIGH = Float32(0.693359375)
"""Few enough bits that a whole number times it is exact."""
comptime LN_2_LOW = Float32(-2.12194440e-4)
comptime TO_WHOLE = Float32(12582912)
"""1.5 * 2 ** 23: added to a float32 it leaves its nearest whole number in the
low bits."""

comptime LEAST = Float32(-87)
comptime MOST = Float32(88)


@always_inline
def fast_exp[width: SIMDLength](x: SIMD[F32, width]) -> SIMD[F32, width]:
    """e ** x to 2e-7 of it, for x from -87 to 88; beyond, that of the bound.

    A NaN counts as -87. By e ** x = 2 ** n * e ** r with |r| <= ln 2 / 2, and
    a polynomial in r (Cephes library, expf).
    """
    var low = x.gt(LEAST).select(x, SIMD[F32, width](LEAST))
    var y = low.lt(MOST).select(low, SIMD[F32, width](MOST))
    var shifted = y.fma(SIMD[F32, width](LOG2_E), SIMD[F32, width](TO_WHOLE))
    var n = shifted - TO_WHOLE
    var r = n.fma(SIMD[F32, width](-LN_2_HIGH), y)
    r = n.fma(SIMD[F32, width](-LN_2_LOW), r)
    var p = SIMD[F32, width](1.9875691500e-4)
    comptime for c in [
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ]:
        p = p.fma(r, SIMD[F32, width](c))
    p = p.fma(r * r, r) + 1
    return bitcast[F32, width](
        bitcast[U32, width](p) + (bitcast[U32, width](shifted) << 23)
    )
