"""Attention of a tile of queries over the keys and values they see.

Keys lie sixteen positions across the lanes of a vector, [n_slots / 16,
head_dim, 16], values one position after another, [n_slots, head_dim]; so scores
and weighted sums are both products without sums across lanes, shared by all
query heads of a kv head and by neighbouring tokens.

The arithmetic of a query is fixed, whatever shares its tile: positions come in
blocks of 32 and segments of 1024, both counted from position 0. Within a
segment the softmax is taken online, block by block (arXiv:1805.02867); segments
are then joined in order. So prefill and decode agree to the bit, with any chunks
and any threads.
"""

from std.math import exp
from std.sys import PrefetchOptions, prefetch, size_of
from std.utils.numerics import neg_inf

from formats.rows import LANES, Vector
from ops.softcap import capped
from ops.tiles import MANY_REGISTERS, VECTORS
from runtime.views import CACHE_LINE, F32, BytePtr, F32Ptr, floats

comptime KEY_BLOCK = 32
"""Positions whose scores are turned to weights together."""

comptime SEGMENT = 1024
"""Positions whose softmax is taken on its own."""

comptime MAX_QUERIES = 64
"""Queries of a tile: tokens times query heads of a kv head."""

comptime TILE_QUERIES = 6 if MANY_REGISTERS else 4
"""Queries in a register tile."""

comptime FEW_QUERIES = 4
"""Up to so many, a block is converted to float32 where it is read."""

comptime Scores = SIMD[F32, KEY_BLOCK]


@always_inline
def workspace_bytes(head_dim: Int) -> Int:
    """Memory of a thread's own for tiles of this head size."""
    return 4 * (
        2 * KEY_BLOCK * head_dim
        + MAX_QUERIES * (KEY_BLOCK + head_dim)
        + 8 * MAX_QUERIES
    )


struct Workspace(TrivialRegisterPassable):
    """Where a thread keeps a block's keys and values and a segment's results."""

    var keys: F32Ptr
    """[2, head_dim, 16] a block of keys."""
    var values: F32Ptr
    """[32, head_dim] a block of values."""
    var weights: F32Ptr
    """[MAX_QUERIES, 32] scores, then weights, of a block."""
    var partial: F32Ptr
    """[MAX_QUERIES, head_dim] the weighted sum of a segment."""
    var tops: F32Ptr
    """[MAX_QUERIES] the greatest score of a segment so far."""
    var totals: F32Ptr
    """[MAX_QUERIES] the sum of its weights."""
    var keeps: F32Ptr
    """[MAX_QUERIES] what a new greatest score leaves of `partial`."""
    var all_tops: F32Ptr
    """[MAX_QUERIES] as `tops`, of the segments that are joined."""
    var all_totals: F32Ptr
    """[MAX_QUERIES]."""

    def __init__(out self, memory: BytePtr, head_dim: Int):
        self.keys = floats(memory)
        self.values = self.keys.unsafe_offset(KEY_BLOCK * head_dim)
        self.weights = self.values.unsafe_offset(KEY_BLOCK * head_dim)
        self.partial = self.weights.unsafe_offset(MAX_QUERIES * KEY_BLOCK)
        self.tops = self.partial.unsafe_offset(MAX_QUERIES * head_dim)
        self.totals = self.tops.unsafe_offset(MAX_QUERIES)
        self.keeps = self.totals.unsafe_offset(MAX_QUERIES)
        self.all_tops = self.keeps.unsafe_offset(MAX_QUERIES)
        self.all_totals = self.all_tops.unsafe_offset(MAX_QUERIES)


@fieldwise_init
struct KeyValues[dtype: DType](TrivialRegisterPassable):
    """Keys and values of one kv head; position p lies in slot p mod n_slots.

    `n_slots` is a multiple of 32, so that a block is never torn.
    """

    var keys: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var values: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var n_slots: Int


@fieldwise_init
struct Sight(TrivialRegisterPassable):
    """The positions that a query sees, first and last."""

    var first: Int
    var last: Int


@fieldwise_init
struct Queries(TrivialRegisterPassable):
    """A tile: `n_heads` neighbouring heads of `n_tokens` neighbouring tokens.

    Query i is head i mod n_heads of token i / n_heads.
    """

    var q: F32Ptr
    """Queries, after norm and rotation; the first head of the first token."""
    var result: F32Ptr
    """Results, in the same places."""
    var token_stride: Int
    """Numbers from a token to the next."""
    var n_tokens: Int
    var n_heads: Int
    var head_dim: Int
    var position: Int
    """Of the first token."""
    var n_before: Int
    """Positions before a query that it sees."""
    var n_after: Int
    """Positions after it that it sees."""
    var n_positions: Int
    """Positions of the sequence that have keys by now."""

    @always_inline
    def count(self) -> Int:
        return self.n_tokens * self.n_heads

    @always_inline
    def offset(self, query: Int) -> Int:
        """Where a query, and its result, lies."""
        return (
            query // self.n_heads * self.token_stride
            + query % self.n_heads * self.head_dim
        )

    @always_inline
    def sight(self, query: Int) -> Sight:
        var position = self.position + query // self.n_heads
        return Sight(
            max(0, position - self.n_before),
            min(self.n_positions - 1, position + self.n_after),
        )


@always_inline
def load_block[
    dtype: DType
](kv: KeyValues[dtype], block: Int, head_dim: Int, work: Workspace):
    """Write a block's keys and values as float32."""
    var at = block * KEY_BLOCK % kv.n_slots * head_dim
    for i in range(0, KEY_BLOCK * head_dim, LANES):
        work.keys.unsafe_store(
            i, kv.keys.unsafe_load[width=LANES](at + i).cast[F32]()
        )
        work.values.unsafe_store(
            i, kv.values.unsafe_load[width=LANES](at + i).cast[F32]()
        )


@always_inline
def fetch_next_block[
    dtype: DType
](block: Pointer[Scalar[dtype], _], head_dim: Int, d: Int):
    """Fetch a part of the block behind this one: what 16 of head_dim are of it."""
    comptime line = CACHE_LINE // size_of[Scalar[dtype]]()
    var next = block.unsafe_offset(KEY_BLOCK * (head_dim + d))
    comptime for i in range(KEY_BLOCK * LANES // line):
        prefetch[PrefetchOptions().for_read().medium_locality()](
            next.unsafe_offset(i * line)
        )


@always_inline
def score_queries[
    dtype: DType, //, n: Int, fetches: Bool
](
    queries: Queries,
    all_keys: Pointer[Scalar[dtype], _],
    values: Pointer[Scalar[dtype], _],
    work: Workspace,
    mut query: Int,
):
    """Scores of `n` queries at a time, while there are enough.

    `fetches`: keys and values come from a cache, block after block.
    """
    var dim = queries.head_dim
    while query + n <= queries.count():
        var at = Array[Int, n](fill=0)
        comptime for t in range(n):
            at[t] = queries.offset(query + t)
        for half in range(0, KEY_BLOCK // LANES, VECTORS):
            var acc = Array[Vector, n * VECTORS](fill=Vector(0))
            var keys = all_keys.unsafe_offset(half * dim * LANES)
            for d in range(dim):
                comptime if fetches:
                    if d % LANES == 0 and query + half == 0:
                        fetch_next_block(all_keys, dim, d)
                        fetch_next_block(values, dim, d)
                var w = Array[Vector, VECTORS](fill=Vector(0))
                comptime for r in range(VECTORS):
                    w[r] = keys.unsafe_load[width=LANES](
                        LANES * (r * dim + d)
                    ).cast[F32]()
                comptime for t in range(n):
                    var x = Vector(queries.q[unsafe_offset=at[t] + d])
                    comptime for r in range(VECTORS):
                        acc[t * VECTORS + r] = w[r].fma(x, acc[t * VECTORS + r])
            comptime for t in range(n):
                comptime for r in range(VECTORS):
                    work.weights.unsafe_store(
                        KEY_BLOCK * (query + t) + LANES * (half + r),
                        acc[t * VECTORS + r],
                    )
        query += n


@always_inline
def weigh(
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
    var is_first = top == neg_inf[F32]()
    var keep = Float32(0) if is_first else exp(top - new_top)
    var weights = scores.gt(neg_inf[F32]()).select(
        exp(scores - new_top), Scores(0)
    )
    work.totals[unsafe_offset=query] = (
        work.totals[unsafe_offset=query] * keep + weights.reduce_add()
    )
    work.tops[unsafe_offset=query] = new_top
    work.keeps[unsafe_offset=query] = keep
    at.unsafe_store(0, weights)


@always_inline
def add_values[
    dtype: DType, //, n: Int, vectors: Int
](
    queries: Queries,
    values: Pointer[Scalar[dtype], _],
    work: Workspace,
    from_key: Int,
    to_key: Int,
    query: Int,
):
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
        for j in range(from_key, to_key):
            var w = Array[Vector, vectors](fill=Vector(0))
            comptime for r in range(vectors):
                w[r] = values.unsafe_load[width=LANES](
                    j * dim + d + LANES * r
                ).cast[F32]()
            comptime for t in range(n):
                var x = Vector(
                    work.weights[unsafe_offset=KEY_BLOCK * (query + t) + j]
                )
                comptime for r in range(vectors):
                    acc[t * vectors + r] = w[r].fma(x, acc[t * vectors + r])
        comptime for t in range(n):
            comptime for r in range(vectors):
                work.partial.unsafe_store(
                    (query + t) * dim + d + LANES * r, acc[t * vectors + r]
                )


@always_inline
def add_values_of[
    dtype: DType, //, n: Int
](
    queries: Queries,
    values: Pointer[Scalar[dtype], _],
    work: Workspace,
    from_key: Int,
    to_key: Int,
    mut query: Int,
):
    """The same for as many queries as there are, `n` at a time."""
    while query + n <= queries.count():
        if queries.head_dim % (LANES * VECTORS) == 0:
            add_values[n, VECTORS](
                queries, values, work, from_key, to_key, query
            )
        else:
            add_values[n, 1](queries, values, work, from_key, to_key, query)
        query += n


@always_inline
def see_block[
    dtype: DType, //, most: Int, fetches: Bool
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
    for i in range(queries.count()):
        weigh(queries, work, i, block, scale, cap)
    var start = block * KEY_BLOCK
    var from_key = max(0, seen.first - start)
    var to_key = min(KEY_BLOCK, seen.last + 1 - start)
    query = 0
    add_values_of[most](queries, values, work, from_key, to_key, query)
    add_values_of[2](queries, values, work, from_key, to_key, query)
    add_values_of[1](queries, values, work, from_key, to_key, query)


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
    if queries.count() <= FEW_QUERIES:
        var at = block * KEY_BLOCK % kv.n_slots * queries.head_dim
        see_block[FEW_QUERIES, True](
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
        load_block(kv, block, queries.head_dim, work)
        see_block[TILE_QUERIES, False](
            work.keys, work.values, queries, block, seen, scale, cap, work
        )


def begin_segment(queries: Queries, work: Workspace):
    """Forget the segment before."""
    for i in range(queries.count()):
        work.tops[unsafe_offset=i] = neg_inf[F32]()
        work.totals[unsafe_offset=i] = 0
    for i in range(0, queries.count() * queries.head_dim, LANES):
        work.partial.unsafe_store(i, Vector(0))


def join_segment(queries: Queries, work: Workspace, query: Int):
    """Join a query's segment with the segments before."""
    if work.tops[unsafe_offset=query] == neg_inf[F32]():
        return
    var dim = queries.head_dim
    var result = queries.result.unsafe_offset(queries.offset(query))
    var partial = work.partial.unsafe_offset(query * dim)
    var before = work.all_tops[unsafe_offset=query]
    var top = max(before, work.tops[unsafe_offset=query])
    var is_first = before == neg_inf[F32]()
    var keep = Float32(0) if is_first else exp(before - top)
    var share = Float32(1) if is_first else exp(
        work.tops[unsafe_offset=query] - top
    )
    for d in range(0, dim, LANES):
        var v = partial.unsafe_load[width=LANES](d) * share
        if not is_first:
            v = result.unsafe_load[width=LANES](d).fma(Vector(keep), v)
        result.unsafe_store(d, v)
    work.all_totals[unsafe_offset=query] = (
        work.all_totals[unsafe_offset=query] * keep
        + work.totals[unsafe_offset=query] * share
    )
    work.all_tops[unsafe_offset=query] = top


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
    for i in range(n):
        work.all_tops[unsafe_offset=i] = neg_inf[F32]()
        work.all_totals[unsafe_offset=i] = 0
    for segment in range(seen.first // SEGMENT, seen.last // SEGMENT + 1):
        begin_segment(queries, work)
        var first = max(seen.first, segment * SEGMENT) // KEY_BLOCK
        var last = min(seen.last, (segment + 1) * SEGMENT - 1) // KEY_BLOCK
        for block in range(first, last + 1):
            run_block(kv, queries, block, seen, scale, cap, work)
        for i in range(n):
            join_segment(queries, work, i)
    for i in range(n):
        var result = queries.result.unsafe_offset(queries.offset(i))
        var share = 1 / work.all_totals[unsafe_offset=i]
        for d in range(0, queries.head_dim, LANES):
            result.unsafe_store(d, result.unsafe_load[width=LANES](d) * share)
