"""Attention of one query head over the keys and values it sees.

The softmax is taken online (arXiv:1805.02867), a block of 32 keys at a time.
Blocks begin at multiples of 32 of the absolute position, so a query's result
is the same to the bit in prefill and decode, with any chunks and any threads.
"""

from std.math import exp
from std.utils.numerics import neg_inf

from ops.softcap import capped
from runtime.views import F32, BytePtr, F32Ptr

comptime WIDTH = 16
comptime KEY_BLOCK = 32
"""Keys whose scores are turned to weights together."""

comptime Scores = SIMD[F32, KEY_BLOCK]


@fieldwise_init
struct Ring[dtype: DType](TrivialRegisterPassable):
    """Keys or values of one kv head: position p lies at p mod n_slots."""

    var base: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var stride: Int
    """Elements from a position to the next."""
    var n_slots: Int

    @always_inline
    def at(
        self, position: Int
    ) -> Pointer[Scalar[Self.dtype], MutUntrackedOrigin]:
        return self.base.unsafe_offset(position % self.n_slots * self.stride)


@always_inline
def key_scores[
    dtype: DType, n: Int
](
    q: Pointer[Float32, _],
    keys: Ring[dtype],
    position: Int,
    head_dim: Int,
) -> Array[Float32, n]:
    """q . k for `n` keys from `position` on."""
    var places = Array[Pointer[Scalar[dtype], MutUntrackedOrigin], n](
        fill=keys.at(position)
    )
    comptime for j in range(1, n):
        places[j] = keys.at(position + j)
    var acc = Array[SIMD[F32, WIDTH], n](fill=SIMD[F32, WIDTH](0))
    for d in range(0, head_dim, WIDTH):
        var query = q.unsafe_load[width=WIDTH](d)
        comptime for j in range(n):
            var key = places[j].unsafe_load[width=WIDTH](d).cast[F32]()
            acc[j] = query.fma(key, acc[j])
    var scores = Array[Float32, n](fill=0)
    comptime for j in range(n):
        scores[j] = acc[j].reduce_add()
    return scores^


@always_inline
def block_scores[
    dtype: DType
](
    q: Pointer[Float32, _],
    keys: Ring[dtype],
    first: Int,
    n_keys: Int,
    head_dim: Int,
    scale: Float32,
    cap: Float32,
) -> Scores:
    """Scores of up to 32 keys; -inf in the lanes that are left."""
    var scores = Scores(0)
    var j = 0
    while j + 4 <= n_keys:
        var four = key_scores[dtype, 4](q, keys, first + j, head_dim)
        comptime for i in range(4):
            scores[j + i] = four[i]
        j += 4
    while j < n_keys:
        scores[j] = key_scores[dtype, 1](q, keys, first + j, head_dim)[0]
        j += 1
    scores *= scale
    if cap > 0:
        scores = capped(scores, cap)
    for lane in range(n_keys, KEY_BLOCK):
        scores[lane] = neg_inf[F32]()
    return scores


@always_inline
def add_values[
    dtype: DType
](
    result: F32Ptr,
    keep: Float32,
    weights: Scores,
    values: Ring[dtype],
    first: Int,
    n_keys: Int,
    head_dim: Int,
):
    """result = keep * result + sum of weights[j] * value j, in order of j."""
    for d in range(0, head_dim, WIDTH):
        var acc = result.unsafe_load[width=WIDTH](d) * keep
        for j in range(n_keys):
            var value = values.at(first + j).unsafe_load[width=WIDTH](d)
            acc = value.cast[F32]().fma(SIMD[F32, WIDTH](weights[j]), acc)
        result.unsafe_store(d, acc)


def attend[
    dtype: DType
](
    result: F32Ptr,
    q: Pointer[Float32, _],
    keys: Ring[dtype],
    values: Ring[dtype],
    first: Int,
    last: Int,
    head_dim: Int,
    scale: Float32,
    cap: Float32,
):
    """Write softmax(scale * q . k) . v over positions first .. last.

    Args:
        result: [head_dim].
        q: [head_dim], after norm and rotation.
        keys: Keys of the kv head that the query head uses.
        values: Its values.
        first: First position that the query sees.
        last: Last position that it sees, at least `first`.
        head_dim: A multiple of 16.
        scale: What q . k is multiplied by.
        cap: Soft cap of the scores; 0 for none.
    """
    for d in range(0, head_dim, WIDTH):
        result.unsafe_store(d, SIMD[F32, WIDTH](0))
    var top = neg_inf[F32]()
    var total = Float32(0)
    for block in range(first // KEY_BLOCK, last // KEY_BLOCK + 1):
        var start = max(first, block * KEY_BLOCK)
        var n = min(last + 1, (block + 1) * KEY_BLOCK) - start
        var scores = block_scores(q, keys, start, n, head_dim, scale, cap)
        var new_top = max(top, scores.reduce_max())
        var keep = exp(
            top - new_top
        ) if block > first // KEY_BLOCK else Float32(0)
        var weights = scores.gt(neg_inf[F32]()).select(
            exp(scores - new_top), Scores(0)
        )
        total = total * keep + weights.reduce_add()
        add_values(result, keep, weights, values, start, n, head_dim)
        top = new_top
    var share = 1 / total
    for d in range(0, head_dim, WIDTH):
        result.unsafe_store(d, result.unsafe_load[width=WIDTH](d) * share)
