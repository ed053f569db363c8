"""Residual streams that a layer predicts and corrects: AltUp (arXiv:2301.13310).
"""

from std.math import sqrt, tanh

from ops.rms_norm import inverse_rms, mean_square
from ops.vectors import dot, scale
from runtime.views import F32, F32Ptr

comptime WIDTH = 16
comptime MOST = 4
"""Streams."""

comptime Coefficients = SIMD[F32, MOST]
"""One for each stream."""

comptime LEAST_POWER = Float32(1e-5)
"""A stream whose mean square is less is not blown up to the size of another."""


@fieldwise_init
struct Streams(TrivialRegisterPassable):
    """The streams of one token: `n` of `dim` numbers, `stride` apart."""

    var first: F32Ptr
    var n: Int
    var dim: Int
    var stride: Int

    @always_inline
    def at(self, index: Int) -> F32Ptr:
        return self.first.unsafe_offset(index * self.stride)

    @always_inline
    def load[width: Int](self, index: Int, column: Int) -> SIMD[F32, width]:
        return self.at(index).unsafe_load[width=width](column)


def modality(
    router: Pointer[Float32, _],
    x: Pointer[Float32, _],
    n: Int,
    dim: Int,
    epsilon: Float32,
) -> Coefficients:
    """tanh(router . x / rms(x)), the router being [n, dim]."""
    var inverse = inverse_rms(x, dim, epsilon)
    var result = Coefficients(0)
    for i in range(n):
        result[i] = tanh(dot(router.unsafe_offset(i * dim), x, dim) * inverse)
    return result


@always_inline
def times(
    row: Pointer[Float32, _], coefficients: Coefficients, n: Int
) -> Float32:
    """A row of n weights times as many coefficients."""
    var total = Float32(0)
    for i in range(n):
        total += row[unsafe_offset=i] * coefficients[i]
    return total


@always_inline
def predict_columns[
    width: Int
](streams: Streams, mixing: Array[Coefficients, MOST], column: Int):
    """Add to each stream what its row of `mixing` makes of all."""
    var h = Array[SIMD[F32, width], MOST](fill=SIMD[F32, width](0))
    for i in range(streams.n):
        h[i] = streams.load[width](i, column)
    for o in range(streams.n):
        var total = h[o]
        for i in range(streams.n):
            total = h[i].fma(SIMD[F32, width](mixing[o][i]), total)
        streams.at(o).unsafe_store(column, total)


def predict(
    streams: Streams, weights: Pointer[Float32, _], coefficients: Coefficients
):
    """h_o + sum of (weights . coefficients)[o, i] * h_i, in place.

    Args:
        streams: Of a token.
        weights: [n, n, n]: to, from, coefficient.
        coefficients: What `modality` says of the first stream.
    """
    var n = streams.n
    var mixing = Array[Coefficients, MOST](fill=Coefficients(0))
    for o in range(n):
        for i in range(n):
            var row = weights.unsafe_offset((o * n + i) * n)
            mixing[o][i] = times(row, coefficients, n)
    var whole = streams.dim // WIDTH * WIDTH
    for column in range(0, whole, WIDTH):
        predict_columns[WIDTH](streams, mixing, column)
    for column in range(whole, streams.dim):
        predict_columns[1](streams, mixing, column)


@always_inline
def correct_columns[
    width: Int
](streams: Streams, x: Pointer[Float32, _], share: Coefficients, column: Int):
    """Move each stream by its share of what the first was wrong by."""
    var wrong = x.unsafe_load[width=width](column) - streams.load[width](
        0, column
    )
    for i in range(streams.n):
        var moved = wrong.fma(
            SIMD[F32, width](share[i]), streams.load[width](i, column)
        )
        streams.at(i).unsafe_store(column, moved)


def correct(
    streams: Streams,
    weights: Pointer[Float32, _],
    x: Pointer[Float32, _],
    coefficients: Coefficients,
):
    """h_k + ((weights . coefficients)[k] + 1) * (x - h_0), in place.

    Args:
        streams: As predicted.
        weights: [n, n].
        x: What the layer gave, [dim].
        coefficients: What `modality` says of it.
    """
    var share = Coefficients(0)
    for k in range(streams.n):
        var row = weights.unsafe_offset(k * streams.n)
        share[k] = times(row, coefficients, streams.n) + 1
    var whole = streams.dim // WIDTH * WIDTH
    for column in range(0, whole, WIDTH):
        correct_columns[WIDTH](streams, x, share, column)
    for column in range(whole, streams.dim):
        correct_columns[1](streams, x, share, column)


def bring_to_size(x: F32Ptr, like: Pointer[Float32, _], dim: Int):
    """Scale `x` to the root mean square of `like`."""
    var power = max(mean_square(x, dim), LEAST_POWER)
    scale(x, dim, sqrt(mean_square(like, dim)) / sqrt(power))
