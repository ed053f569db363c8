"""Rotary position embedding, half-rotation layout (arXiv:2104.09864)."""

from std.math import pi

from runtime.views import F32, F32Ptr

comptime WIDTH = 8


comptime F64 = DType.float64
comptime Angles = SIMD[F64, WIDTH]


@always_inline
def sine_and_cosine(angle: Angles) -> Tuple[Angles, Angles]:
    """Both to 1e-11, by Taylor series around the nearest quarter turn.

    For angles up to 2 ** 24, which is more than any context has positions.
    """
    var quarter = round(angle * (2.0 / pi))
    var r = angle - quarter * (pi / 2.0)
    var s = r * r
    var sine = Angles(-1.0 / 39916800.0)
    comptime for factor in [362880.0, -5040.0, 120.0, -6.0, 1.0]:
        sine = sine.fma(s, Angles(1.0 / factor))
    sine *= r
    var cosine = Angles(1.0 / 479001600.0)
    comptime for factor in [-3628800.0, 40320.0, -720.0, 24.0, -2.0, 1.0]:
        cosine = cosine.fma(s, Angles(1.0 / factor))
    var turn = quarter.cast[DType.int64]() & 3
    var swapped = (turn & 1).eq(1)
    var a = swapped.select(cosine, sine)
    var b = swapped.select(sine, cosine)
    return (
        turn.ge(2).select(-a, a),
        (turn.eq(1) | turn.eq(2)).select(-b, b),
    )


def rope_angles(
    position: Int,
    frequencies: Pointer[Float32, _],
    n_pairs: Int,
    cosines: F32Ptr,
    sines: F32Ptr,
):
    """Write the cosine and sine of position * frequency for each pair.

    `n_pairs` is a multiple of 8. The product is rounded to float32, as in the
    reference implementation.
    """
    for j in range(0, n_pairs, WIDTH):
        var angle = Float32(position) * frequencies.unsafe_load[width=WIDTH](j)
        var both = sine_and_cosine(angle.cast[F64]())
        sines.unsafe_store(j, both[0].cast[F32]())
        cosines.unsafe_store(j, both[1].cast[F32]())


def rope(
    head: F32Ptr,
    cosines: Pointer[Float32, _],
    sines: Pointer[Float32, _],
    n_pairs: Int,
):
    """Turn each pair (j, j + n_pairs) of a head in place.

    `n_pairs` is a multiple of 8, since head_dim is one of 16.
    """
    for j in range(0, n_pairs, WIDTH):
        var a = head.unsafe_load[width=WIDTH](j)
        var b = head.unsafe_load[width=WIDTH](j + n_pairs)
        var c = cosines.unsafe_load[width=WIDTH](j)
        var s = sines.unsafe_load[width=WIDTH](j)
        head.unsafe_store(j, a * c - b * s)
        head.unsafe_store(j + n_pairs, b * c + a * s)
