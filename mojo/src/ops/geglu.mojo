"""The gate of Gemma's MLP: gelu(gate) * up (arXiv:2002.05202)."""

from ops.exponential import fast_exp
from runtime.views import F32, F32Ptr

comptime WIDTH = 16
comptime SQRT_2_OVER_PI = Float32(0.7978845608028654)


@always_inline
def gelu[width: SIMDLength](x: SIMD[F32, width]) -> SIMD[F32, width]:
    """GELU in its tanh form, which all Gemmas use (arXiv:1606.08415).

    (1 + tanh(u)) / 2 is 1 / (1 + e ** -2u).
    """
    var u = SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)
    return x / (1 + fast_exp(-2 * u))


def geglu(gate: F32Ptr, up: Pointer[Float32, _], n: Int):
    """Write gelu(gate) * up over `gate`, both [n]."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var u = up.unsafe_load[width=WIDTH](i)
        gate.unsafe_store(i, gelu(gate.unsafe_load[width=WIDTH](i)) * u)
    for i in range(whole, n):
        gate[unsafe_offset=i] = (
            gelu(gate[unsafe_offset=i]) * up[unsafe_offset=i]
        )
