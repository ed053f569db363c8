"""A block of bfloat16 keys and values, multiplied by pairs.

Keys are [n_slots / 16, head_dim / 2, 16, 2]: positions lie across the lanes,
and a lane has two neighbouring numbers of one key. Values are [n_slots / 2,
head_dim, 2]: a lane has the same number of two neighbouring positions.
"""

from formats.rows import LANES, Vector, Words
from ops.attention_floats import fetch_next_block
from ops.attention_tile import KEY_BLOCK, KeyValues, Queries, Sight, Workspace
from ops.pairs import dot_pairs, first_of, second_of
from ops.tiles import VECTORS
from runtime.views import U32

comptime PAIR_QUERIES = 12
"""Queries in a register tile."""

comptime PairPtr = Pointer[UInt32, MutUntrackedOrigin]


@always_inline
def pairs_of(numbers: Pointer[mut=True, _, MutUntrackedOrigin]) -> PairPtr:
    return numbers.unsafe_bitcast[UInt32]()


def spread_block(
    kv: KeyValues[DType.bfloat16],
    block: Int,
    seen: Sight,
    head_dim: Int,
    work: Workspace,
):
    """Write a block's keys and values as float32, where pairs are of no use.

    The second of a pair comes first, as it does in `dot_pairs`. Values of a pair
    that nobody sees become 0.
    """
    var at = block * KEY_BLOCK % kv.n_slots * head_dim // 2
    var keys = pairs_of(kv.keys).unsafe_offset(at)
    var values = pairs_of(kv.values).unsafe_offset(at)
    for i in range(0, KEY_BLOCK * head_dim // 2, LANES):
        var pairs = keys.unsafe_load[width=LANES](i)
        work.keys.unsafe_store(2 * i, second_of(pairs))
        work.keys.unsafe_store(2 * i + LANES, first_of(pairs))
    for j in range(seen.first // 2, seen.last // 2 + 1):
        var mask = seen_halves(seen, j)
        for d in range(0, head_dim, LANES):
            var pairs = mask & values.unsafe_load[width=LANES](j * head_dim + d)
            var to = work.values.unsafe_offset(2 * j * head_dim + d)
            to.unsafe_store(0, second_of(pairs))
            to.unsafe_store(head_dim, first_of(pairs))


@always_inline
def seen_halves(seen: Sight, pair: Int) -> UInt32:
    """The bits of the positions of a pair that somebody sees.

    What was written in the others, if anything, may be no number.
    """
    var mask = UInt32(0xFFFFFFFF)
    if 2 * pair < seen.first:
        mask &= 0xFFFF0000
    if 2 * pair + 1 > seen.last:
        mask &= 0x0000FFFF
    return mask


@always_inline
def score_pairs[
    n: Int, fetches: Bool
](
    queries: Queries,
    all_keys: PairPtr,
    values: PairPtr,
    work: Workspace,
    mut query: Int,
):
    """Scores of `n` queries at a time, while there are enough.

    `fetches`: the block behind this one, too.
    """
    var n_pairs = queries.head_dim // 2
    while query + n <= queries.count():
        var q = pairs_of(work.q).unsafe_offset(query * n_pairs)
        for half in range(0, KEY_BLOCK // LANES, VECTORS):
            var acc = Array[Vector, n * VECTORS](fill=Vector(0))
            var keys = all_keys.unsafe_offset(half * n_pairs * LANES)
            for i in range(n_pairs):
                comptime if fetches:
                    if i % LANES == 0 and query + half == 0:
                        fetch_next_block(all_keys, n_pairs, i)
                        fetch_next_block(values, n_pairs, i)
                var w = Array[Words, VECTORS](fill=Words(0))
                comptime for r in range(VECTORS):
                    w[r] = keys.unsafe_load[width=LANES](
                        LANES * (r * n_pairs + i)
                    )
                comptime for t in range(n):
                    var x = Words(q[unsafe_offset=t * n_pairs + i])
                    comptime for r in range(VECTORS):
                        acc[t * VECTORS + r] = dot_pairs(
                            acc[t * VECTORS + r], w[r], x
                        )
            comptime for t in range(n):
                comptime for r in range(VECTORS):
                    work.weights.unsafe_store(
                        KEY_BLOCK * (query + t) + LANES * (half + r),
                        acc[t * VECTORS + r],
                    )
        query += n


@always_inline
def add_value_pairs[
    n: Int, vectors: Int
](queries: Queries, values: PairPtr, work: Workspace, seen: Sight, query: Int,):
    """partial = keep * partial + weights . values for `n` queries."""
    var dim = queries.head_dim
    for d in range(
        0, dim // (LANES * vectors) * LANES * vectors, LANES * vectors
    ):
        var acc = Array[Vector, n * vectors](fill=Vector(0))
        comptime for t in range(n):
            var keep = work.keeps[unsafe_offset=query + t]
            comptime for r in range(vectors):
                acc[t * vectors + r] = keep * work.partial.unsafe_load[
                    width=LANES
                ]((query + t) * dim + d + LANES * r)
        for j in range(seen.first // 2, seen.last // 2 + 1):
            var mask = seen_halves(seen, j)
            var w = Array[Words, vectors](fill=Words(0))
            comptime for r in range(vectors):
                w[r] = mask & values.unsafe_load[width=LANES](
                    j * dim + d + LANES * r
                )
            comptime for t in range(n):
                var x = Words(
                    pairs_of(work.weights)[
                        unsafe_offset=KEY_BLOCK * (query + t) + j
                    ]
                )
                comptime for r in range(vectors):
                    acc[t * vectors + r] = dot_pairs(
                        acc[t * vectors + r], w[r], x
                    )
        comptime for t in range(n):
            comptime for r in range(vectors):
                work.partial.unsafe_store(
                    (query + t) * dim + d + LANES * r, acc[t * vectors + r]
                )


@always_inline
def add_value_pairs_of[
    n: Int
](
    queries: Queries,
    values: PairPtr,
    work: Workspace,
    seen: Sight,
    mut query: Int,
):
    """The same for as many queries as there are, `n` at a time."""
    while query + n <= queries.count():
        if queries.head_dim % (LANES * VECTORS) == 0:
            add_value_pairs[n, VECTORS](queries, values, work, seen, query)
        else:
            add_value_pairs[n, 1](queries, values, work, seen, query)
        query += n
