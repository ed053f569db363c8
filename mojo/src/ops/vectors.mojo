"""Plain steps on vectors: copied, scaled, multiplied, summed up."""

from runtime.views import F32, F32Ptr

comptime WIDTH = 16


def copy(to: F32Ptr, x: Pointer[Float32, _], n: Int):
    """Write n numbers; the two do not overlap."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        to.unsafe_store(i, x.unsafe_load[width=WIDTH](i))
    for i in range(whole, n):
        to[unsafe_offset=i] = x[unsafe_offset=i]


def scale(x: F32Ptr, n: Int, factor: Float32):
    """Multiply n numbers by a factor, in place."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        x.unsafe_store(i, x.unsafe_load[width=WIDTH](i) * factor)
    for i in range(whole, n):
        x[unsafe_offset=i] *= factor


def multiply(
    to: F32Ptr, x: Pointer[Float32, _], y: Pointer[Float32, _], n: Int
):
    """Write x * y, number by number."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i)
        to.unsafe_store(i, v * y.unsafe_load[width=WIDTH](i))
    for i in range(whole, n):
        to[unsafe_offset=i] = x[unsafe_offset=i] * y[unsafe_offset=i]


def add_scaled(sum: F32Ptr, x: Pointer[Float32, _], factor: Float32, n: Int):
    """Add factor * x to `sum`."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i)
        var total = v.fma(
            SIMD[F32, WIDTH](factor), sum.unsafe_load[width=WIDTH](i)
        )
        sum.unsafe_store(i, total)
    for i in range(whole, n):
        sum[unsafe_offset=i] += x[unsafe_offset=i] * factor


def dot(x: Pointer[Float32, _], y: Pointer[Float32, _], n: Int) -> Float32:
    """The sum of x * y: sixteen partial sums, then those."""
    var sums = SIMD[F32, WIDTH](0)
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i)
        sums = v.fma(y.unsafe_load[width=WIDTH](i), sums)
    var total = sums.reduce_add()
    for i in range(whole, n):
        total += x[unsafe_offset=i] * y[unsafe_offset=i]
    return total
