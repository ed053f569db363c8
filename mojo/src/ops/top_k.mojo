"""The k best of many logits."""

from std.utils.numerics import max_finite

from runtime.views import F32, F32Ptr, I32Ptr

comptime WIDTH = 16


@always_inline
def insert(ids: I32Ptr, values: F32Ptr, filled: Int, id: Int, value: Float32):
    """Put a logit where it belongs among `filled` that are sorted."""
    var at = filled
    while at > 0 and values[unsafe_offset=at - 1] < value:
        values[unsafe_offset=at] = values[unsafe_offset=at - 1]
        ids[unsafe_offset=at] = ids[unsafe_offset=at - 1]
        at -= 1
    values[unsafe_offset=at] = value
    ids[unsafe_offset=at] = Int32(id)


def top_k(
    logits: Pointer[Float32, _], n: Int, k: Int, ids: I32Ptr, values: F32Ptr
) -> Bool:
    """Write the k greatest, greatest first, equal ones by lower id.

    A pass that compares 16 logits at a time with the k-th best so far: few of
    them get past it. False where a NaN or +inf is among the n.

    Args:
        logits: [n].
        n: At least k.
        k: At least 1.
        ids: Result, [k].
        values: Result, [k].
    """
    var filled = 0
    for i in range(k):
        insert(ids, values, filled, i, logits[unsafe_offset=i])
        filled += 1
    var finite = True
    for i in range(k):
        finite = finite and logits[unsafe_offset=i] <= max_finite[F32]()
    var i = k
    while i < n:
        var least = values[unsafe_offset=k - 1]
        if i + WIDTH <= n:
            var v = logits.unsafe_load[width=WIDTH](i)
            finite = finite and v.le(max_finite[F32]()).reduce_and()
            if not v.gt(least).reduce_or():
                i += WIDTH
                continue
        for j in range(i, min(i + WIDTH, n)):
            var value = logits[unsafe_offset=j]
            finite = finite and value <= max_finite[F32]()
            if value > values[unsafe_offset=k - 1]:
                insert(ids, values, k - 1, j, value)
        i += WIDTH
    return finite
