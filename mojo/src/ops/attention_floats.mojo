"""A block of float32 or float16 keys and values, multiplied in float32.

Keys are [n_slots / 16, head_dim, 16]: positions lie across the lanes. Values
are [n_slots, head_dim]. So scores and weighted sums are both products without
sums across lanes, shared by all queries of a tile.
"""

from std.sys import PrefetchOptions, prefetch, size_of

from formats.rows import LANES, Vector
from ops.attention_tile import KEY_BLOCK, KeyValues, Queries, Sight, Workspace
from ops.tiles import MANY_REGISTERS, VECTORS
from runtime.views import CACHE_LINE, F32

comptime TILE_QUERIES = 6 if MANY_REGISTERS else 4
"""Queries in a register tile."""


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
        var q = work.q.unsafe_offset(query * dim)
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
                    var x = Vector(q[unsafe_offset=t * dim + d])
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
def add_values[
    dtype: DType, //, n: Int, vectors: Int
](
    queries: Queries,
    values: Pointer[Scalar[dtype], _],
    work: Workspace,
    seen: Sight,
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
        for j in range(seen.first, seen.last + 1):
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
    seen: Sight,
    mut query: Int,
):
    """The same for as many queries as there are, `n` at a time."""
    while query + n <= queries.count():
        if queries.head_dim % (LANES * VECTORS) == 0:
            add_values[n, VECTORS](queries, values, work, seen, query)
        else:
            add_values[n, 1](queries, values, work, seen, query)
        query += n
