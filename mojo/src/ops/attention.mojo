"""Attention of a tile of queries over the keys and values they see.

The arithmetic of a query is fixed, whatever shares its tile: positions come in
blocks of 32 and segments of 1024, both counted from position 0. Within a
segment the softmax is taken online, block by block (arXiv:1805.02867); segments
are then joined in order. So prefill and decode agree to the bit, with any chunks
and any threads.

Float32 and float16 keys and values are multiplied in float32. With bfloat16
ones queries and weights are rounded to bfloat16 too: pairs of such numbers are
multiplied twice as fast where the processor can, and sums are float32 as well.
"""

from std.math import exp
from std.utils.numerics import neg_inf

from formats.rows import LANES, Vector
from ops.attention_floats import (
    TILE_QUERIES,
    add_values_of,
    load_block,
    score_queries,
)
from ops.attention_pairs import (
    PAIR_QUERIES,
    add_value_pairs_of,
    pairs_of,
    score_pairs,
    spread_block,
)
from ops.attention_tile import (
    KEY_BLOCK,
    KeyValues,
    Queries,
    Sight,
    Workspace,
)
from ops.exponential import fast_exp
from ops.pairs import (
    HAS_PAIRS,
    pair_up,
    round_to_bfloat16,
    swap_neighbours,
)
from ops.softcap import capped
from runtime.views import F32, BytePtr, F32Ptr

comptime SEGMENT = 1024
"""Positions whose softmax is taken on its own."""

comptime FEW_QUERIES = 4
"""Up to so many, a block is converted to float32 where it is read."""

comptime Scores = SIMD[F32, KEY_BLOCK]


def load_queries[dtype: DType](queries: Queries, work: Workspace):
    """Write the queries one after another, as keys of `dtype` want them."""
    var dim = queries.head_dim
    for i in range(queries.count()):
        var q = queries.q.unsafe_offset(queries.offset(i))
        var to = work.q.unsafe_offset(i * dim)
        comptime if dtype == DType.bfloat16 and HAS_PAIRS:
            var pairs = pairs_of(work.q).unsafe_offset(i * dim // 2)
            for d in range(0, dim, LANES):
                pairs.unsafe_store(
                    d // 2, pair_up(q.unsafe_load[width=LANES](d))
                )
        elif dtype == DType.bfloat16:
            for d in range(0, dim, LANES):
                var rounded = round_to_bfloat16(q.unsafe_load[width=LANES](d))
                to.unsafe_store(d, swap_neighbours(rounded))
        else:
            for d in range(0, dim, LANES):
                to.unsafe_store(d, q.unsafe_load[width=LANES](d))


@always_inline
def weigh[
    dtype: DType
](
    queries: Queries,
    work: Workspace,
    query: Int,
    block: Int,
    scale: Float32,
    cap: Float32,
):
    """Turn a query's scores of a block to weights, and note what they change."""
    var at = work.weights.unsafe_offset(KEY_BLOCK * query)
    var start = block * KEY_BLOCK
    var sight = queries.sight(query)
    if sight.last < start or sight.first >= start + KEY_BLOCK:
        at.unsafe_store(0, Scores(0))
        work.keeps[unsafe_offset=query] = 1
        return
    var scores = at.unsafe_load[width=KEY_BLOCK]() * scale
    if cap > 0:
        scores = capped(scores, cap)
    if sight.first > start or sight.last < start + KEY_BLOCK - 1:
        for lane in range(max(0, sight.first - start)):
            scores[lane] = neg_inf[F32]()
        for lane in range(sight.last - start + 1, KEY_BLOCK):
            scores[lane] = neg_inf[F32]()
    var top = work.tops[unsafe_offset=query]
    var new_top = max(top, scores.reduce_max())
    # A new greatest score is rare once a few blocks are seen.
    var keep = Float32(1)
    if new_top != top:
        var is_first = top == neg_inf[F32]()
        keep = Float32(0) if is_first else exp(top - new_top)
    var weights = scores.gt(neg_inf[F32]()).select(
        fast_exp(scores - new_top), Scores(0)
    )
    comptime if dtype == DType.bfloat16:
        weights = round_to_bfloat16(weights)
    work.totals[unsafe_offset=query] = (
        work.totals[unsafe_offset=query] * keep + weights.reduce_add()
    )
    work.tops[unsafe_offset=query] = new_top
    work.keeps[unsafe_offset=query] = keep
    comptime if dtype == DType.bfloat16 and HAS_PAIRS:
        pairs_of(at).unsafe_store(0, pair_up(weights))
    elif dtype == DType.bfloat16:
        at.unsafe_store(0, swap_neighbours(weights))
    else:
        at.unsafe_store(0, weights)


@always_inline
def weigh_all[
    dtype: DType
](queries: Queries, work: Workspace, block: Int, scale: Float32, cap: Float32):
    """The same for every query."""
    for i in range(queries.count()):
        weigh[dtype](queries, work, i, block, scale, cap)


@always_inline
def see_floats[
    dtype: DType, //, most: Int, fetches: Bool, weight_type: DType
](
    keys: Pointer[Scalar[dtype], _],
    values: Pointer[Scalar[dtype], _],
    queries: Queries,
    block: Int,
    seen: Sight,
    scale: Float32,
    cap: Float32,
    work: Workspace,
):
    """Scores, weights and weighted sums of a block, `most` queries at a time."""
    var query = 0
    score_queries[most, fetches](queries, keys, values, work, query)
    score_queries[2, fetches](queries, keys, values, work, query)
    score_queries[1, fetches](queries, keys, values, work, query)
    weigh_all[weight_type](queries, work, block, scale, cap)
    var keys_seen = seen.within(block)
    comptime if weight_type == DType.bfloat16:
        keys_seen = Sight(keys_seen.first // 2 * 2, keys_seen.last | 1)
    query = 0
    add_values_of[most](queries, values, work, keys_seen, query)
    add_values_of[2](queries, values, work, keys_seen, query)
    add_values_of[1](queries, values, work, keys_seen, query)


@always_inline
def see_pairs[
    most: Int, fetches: Bool
](
    kv: KeyValues[DType.bfloat16],
    queries: Queries,
    block: Int,
    seen: Sight,
    scale: Float32,
    cap: Float32,
    work: Workspace,
):
    """The same with pairs."""
    var at = block * KEY_BLOCK % kv.n_slots * queries.head_dim // 2
    var keys = pairs_of(kv.keys).unsafe_offset(at)
    var values = pairs_of(kv.values).unsafe_offset(at)
    var query = 0
    score_pairs[most, fetches](queries, keys, values, work, query)
    score_pairs[4, fetches](queries, keys, values, work, query)
    score_pairs[1, fetches](queries, keys, values, work, query)
    weigh_all[DType.bfloat16](queries, work, block, scale, cap)
    var keys_seen = seen.within(block)
    query = 0
    add_value_pairs_of[most](queries, values, work, keys_seen, query)
    add_value_pairs_of[4](queries, values, work, keys_seen, query)
    add_value_pairs_of[1](queries, values, work, keys_seen, query)


@always_inline
def run_block[
    dtype: DType
](
    kv: KeyValues[dtype],
    queries: Queries,
    block: Int,
    seen: Sight,
    scale: Float32,
    cap: Float32,
    work: Workspace,
):
    """Let every query of the tile see a block."""
    var dim = queries.head_dim
    var is_small = queries.count() <= FEW_QUERIES
    comptime if dtype == DType.bfloat16:
        var pairs = rebind[KeyValues[DType.bfloat16]](kv)
        comptime if HAS_PAIRS:
            if is_small:
                see_pairs[FEW_QUERIES, True](
                    pairs, queries, block, seen, scale, cap, work
                )
            else:
                see_pairs[PAIR_QUERIES, False](
                    pairs, queries, block, seen, scale, cap, work
                )
        else:
            spread_block(pairs, block, seen.within(block), dim, work)
            see_floats[TILE_QUERIES, False, dtype](
                work.keys, work.values, queries, block, seen, scale, cap, work
            )
    else:
        if is_small:
            var at = block * KEY_BLOCK % kv.n_slots * dim
            see_floats[FEW_QUERIES, True, dtype](
                kv.keys.unsafe_offset(at),
                kv.values.unsafe_offset(at),
                queries,
                block,
                seen,
                scale,
                cap,
                work,
            )
        else:
            load_block(kv, block, dim, work)
            see_floats[TILE_QUERIES, False, dtype](
                work.keys, work.values, queries, block, seen, scale, cap, work
            )


def begin_segment(queries: Queries, work: Workspace):
    """Forget the segment before."""
    for i in range(queries.count()):
        work.tops[unsafe_offset=i] = neg_inf[F32]()
        work.totals[unsafe_offset=i] = 0
    for i in range(0, queries.count() * queries.head_dim, LANES):
        work.partial.unsafe_store(i, Vector(0))


@always_inline
def join_segment(
    part: F32Ptr,
    part_top: Float32,
    part_total: Float32,
    result: F32Ptr,
    mut top: Float32,
    mut total: Float32,
    dim: Int,
):
    """Join a query's segment with those before, which `result` is the sum of."""
    if part_top == neg_inf[F32]():
        return
    var new_top = max(top, part_top)
    var is_first = top == neg_inf[F32]()
    var keep = Float32(0) if is_first else exp(top - new_top)
    var share = Float32(1) if is_first else exp(part_top - new_top)
    for d in range(0, dim, LANES):
        var v = part.unsafe_load[width=LANES](d) * share
        if not is_first:
            v = result.unsafe_load[width=LANES](d).fma(Vector(keep), v)
        result.unsafe_store(d, v)
    # Which of two products is fused must not be the compiler's choice.
    total = total.fma(keep, part_total * share)
    top = new_top


@always_inline
def divide(result: F32Ptr, total: Float32, dim: Int):
    """The weighted mean from the weighted sum."""
    var share = 1 / total
    for d in range(0, dim, LANES):
        result.unsafe_store(d, result.unsafe_load[width=LANES](d) * share)


@always_inline
def see_segment[
    dtype: DType
](
    kv: KeyValues[dtype],
    queries: Queries,
    segment: Int,
    seen: Sight,
    scale: Float32,
    cap: Float32,
    work: Workspace,
):
    """Let every query of the tile see a segment, all by itself."""
    begin_segment(queries, work)
    var first = max(seen.first, segment * SEGMENT) // KEY_BLOCK
    var last = min(seen.last, (segment + 1) * SEGMENT - 1) // KEY_BLOCK
    for block in range(first, last + 1):
        run_block(kv, queries, block, seen, scale, cap, work)


def attend[
    dtype: DType
](
    kv: KeyValues[dtype],
    queries: Queries,
    scale: Float32,
    cap: Float32,
    memory: BytePtr,
):
    """Write softmax(scale * q . k) . v for every query of a tile.

    Args:
        kv: Keys and values of the kv head that the queries' heads use.
        queries: At most MAX_QUERIES, of at least one token.
        scale: What q . k is multiplied by.
        cap: Soft cap of the scores; 0 for none.
        memory: `workspace_bytes` on a 64-byte boundary.
    """
    var work = Workspace(memory, queries.head_dim)
    var n = queries.count()
    # All that any of them sees: sights move with the tokens.
    var seen = Sight(queries.sight(0).first, queries.sight(n - 1).last)
    load_queries[dtype](queries, work)
    for i in range(n):
        work.all_tops[unsafe_offset=i] = neg_inf[F32]()
        work.all_totals[unsafe_offset=i] = 0
    for segment in range(seen.first // SEGMENT, seen.last // SEGMENT + 1):
        see_segment(kv, queries, segment, seen, scale, cap, work)
        for i in range(n):
            join_segment(
                work.partial.unsafe_offset(i * queries.head_dim),
                work.tops[unsafe_offset=i],
                work.totals[unsafe_offset=i],
                queries.result.unsafe_offset(queries.offset(i)),
                work.all_tops[unsafe_offset=i],
                work.all_totals[unsafe_offset=i],
                queries.head_dim,
            )
    for i in range(n):
        divide(
            queries.result.unsafe_offset(queries.offset(i)),
            work.all_totals[unsafe_offset=i],
            queries.head_dim,
        )


@always_inline
def part_floats(head_dim: Int) -> Int:
    """What a query leaves of a segment: its sum, greatest score and total."""
    return head_dim + LANES


def attend_segment[
    dtype: DType
](
    kv: KeyValues[dtype],
    queries: Queries,
    segment: Int,
    scale: Float32,
    cap: Float32,
    parts: F32Ptr,
    memory: BytePtr,
):
    """The part of `attend` that one segment is, for one token's queries.

    Args:
        kv: As for `attend`, and so are the others.
        queries: Heads of one token.
        segment: Which; the token sees some of it.
        scale: What q . k is multiplied by.
        cap: Soft cap of the scores; 0 for none.
        parts: Result, [n_heads, part_floats].
        memory: `workspace_bytes` on a 64-byte boundary.
    """
    var work = Workspace(memory, queries.head_dim)
    var dim = queries.head_dim
    load_queries[dtype](queries, work)
    see_segment(kv, queries, segment, queries.sight(0), scale, cap, work)
    for i in range(queries.count()):
        var part = parts.unsafe_offset(i * part_floats(dim))
        for d in range(0, dim, LANES):
            part.unsafe_store(
                d, work.partial.unsafe_load[width=LANES](i * dim + d)
            )
        part[unsafe_offset=dim] = work.tops[unsafe_offset=i]
        part[unsafe_offset=dim + 1] = work.totals[unsafe_offset=i]


def join_segments(
    parts: F32Ptr, n_segments: Int, stride: Int, result: F32Ptr, dim: Int
):
    """One query's result from its parts, `stride` numbers apart, in order."""
    var top = neg_inf[F32]()
    var total = Float32(0)
    for segment in range(n_segments):
        var part = parts.unsafe_offset(segment * stride)
        join_segment(
            part,
            part[unsafe_offset=dim],
            part[unsafe_offset=dim + 1],
            result,
            top,
            total,
            dim,
        )
    divide(result, total, dim)
