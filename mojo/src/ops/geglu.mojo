"""The gate of Gemma's MLP: gelu(gate) * up (arXiv:2002.05202)."""

from std.math import sqrt

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


def cut_gate(gate: F32Ptr, n: Int, cutoff: Float32):
    """Write max(g - mean - cutoff * std, 0): what stands out is left over.

    The standard deviation is that of these n numbers themselves. Few of them
    then open the gate: with a normal distribution a share of 1 - Phi(cutoff).
    """
    var whole = n // WIDTH * WIDTH
    var sums = SIMD[F32, WIDTH](0)
    for i in range(0, whole, WIDTH):
        sums += gate.unsafe_load[width=WIDTH](i)
    var total = sums.reduce_add()
    for i in range(whole, n):
        total += gate[unsafe_offset=i]
    var mean = total / Float32(n)
    var squares = SIMD[F32, WIDTH](0)
    for i in range(0, whole, WIDTH):
        var v = gate.unsafe_load[width=WIDTH](i) - mean
        squares = v.fma(v, squares)
    var spread = squares.reduce_add()
    for i in range(whole, n):
        var v = gate[unsafe_offset=i] - mean
        spread += v * v
    var least = mean + cutoff * sqrt(spread / Float32(n))
    for i in range(0, whole, WIDTH):
        var v = gate.unsafe_load[width=WIDTH](i) - least
        gate.unsafe_store(i, max(v, SIMD[F32, WIDTH](0)))
    for i in range(whole, n):
        gate[unsafe_offset=i] = max(gate[unsafe_offset=i] - least, Float32(0))
