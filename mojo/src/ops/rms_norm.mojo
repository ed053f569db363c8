"""Root mean square normalisation."""

from std.math import sqrt

from runtime.views import F32, F32Ptr

comptime WIDTH = 16


@always_inline
def mean_square(x: Pointer[Float32, _], n: Int) -> Float32:
    var squares = SIMD[F32, WIDTH](0)
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i)
        squares = v.fma(v, squares)
    var total = squares.reduce_add()
    for i in range(whole, n):
        total += x[unsafe_offset=i] * x[unsafe_offset=i]
    return total / Float32(n)


@always_inline
def inverse_rms(x: Pointer[Float32, _], n: Int, epsilon: Float32) -> Float32:
    """1 / sqrt(mean(x ** 2) + epsilon)."""
    return 1 / sqrt(mean_square(x, n) + epsilon)


def rms_norm(
    normed: F32Ptr,
    x: Pointer[Float32, _],
    weight: Pointer[Float32, _],
    n: Int,
    epsilon: Float32,
):
    """Write x / rms(x) * weight (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        normed: Result, [n]. May be the same memory as `x`.
        x: What to normalise, [n]: a hidden state or a head.
        weight: Learned scale, [n], as multiplied (1 already added).
        n: Size of the vector.
        epsilon: Keeps a row of zeros finite.
    """
    var scale = inverse_rms(x, n, epsilon)
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i) * scale
        normed.unsafe_store(i, v * weight.unsafe_load[width=WIDTH](i))
    for i in range(whole, n):
        normed[unsafe_offset=i] = (
            x[unsafe_offset=i] * scale * weight[unsafe_offset=i]
        )


def add_rms_norm(
    sum: F32Ptr,
    x: Pointer[Float32, _],
    weight: Pointer[Float32, _],
    n: Int,
    epsilon: Float32,
):
    """Add x / rms(x) * weight to `sum`: a normed branch joins the residual."""
    var scale = inverse_rms(x, n, epsilon)
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i) * scale
        var w = weight.unsafe_load[width=WIDTH](i)
        sum.unsafe_store(i, v.fma(w, sum.unsafe_load[width=WIDTH](i)))
    for i in range(whole, n):
        sum[unsafe_offset=i] += (
            x[unsafe_offset=i] * scale * weight[unsafe_offset=i]
        )


def add(sum: F32Ptr, x: Pointer[Float32, _], n: Int):
    """Add `x` to `sum`: a branch without a norm of its own."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i)
        sum.unsafe_store(i, sum.unsafe_load[width=WIDTH](i) + v)
    for i in range(whole, n):
        sum[unsafe_offset=i] += x[unsafe_offset=i]
