"""Soft capping: keeps scores and logits within +-cap (arXiv:2408.00118)."""

from std.math import tanh

from runtime.views import F32, F32Ptr

comptime WIDTH = 16


@always_inline
def capped[
    width: SIMDLength
](x: SIMD[F32, width], cap: Float32) -> SIMD[F32, width]:
    """cap * tanh(x / cap)."""
    return cap * tanh(x / cap)


def softcap(x: F32Ptr, n: Int, cap: Float32):
    """Cap n values in place."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        x.unsafe_store(i, capped(x.unsafe_load[width=WIDTH](i), cap))
    for i in range(whole, n):
        x[unsafe_offset=i] = capped(x[unsafe_offset=i], cap)
