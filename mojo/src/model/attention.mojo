"""Attention of one layer: heads normed and turned, keys put away, tiles shared.

The phases between `share_qkv` and `share_output` of `layer.mojo`.
"""

from model.engine import Engine
from model.kv_cache import LayerCache, store_key, store_value
from model.layer import token_row
from model.spec import Batch, Layer, Weights
from ops.attention import (
    SEGMENT,
    attend,
    attend_segment,
    join_segments,
    part_floats,
)
from ops.attention_tile import MAX_QUERIES, Queries, Sight
from ops.rms_norm import rms_norm
from ops.rope import rope
from ops.vectors import copy
from runtime.views import BytePtr, F32Ptr


def norm_heads(
    engine: Engine, layer: Layer, heads: F32Ptr, n_heads: Int, norm: F32Ptr
):
    """Norm the heads of one token in place."""
    var dim = Int(layer.head_dim)
    for h in range(n_heads):
        var head = heads.unsafe_offset(h * dim)
        rms_norm(head, head, norm, dim, engine.model[].norm_epsilon)


def norm_and_rope(
    engine: Engine,
    layer: Layer,
    heads: F32Ptr,
    n_heads: Int,
    norm: Weights,
    cosines: F32Ptr,
):
    """Norm and rotate the heads of one token in place."""
    var dim = Int(layer.head_dim)
    if norm:
        norm_heads(engine, layer, heads, n_heads, norm.unsafe_value())
    for h in range(n_heads):
        var head = heads.unsafe_offset(h * dim)
        rope(head, cosines, cosines.unsafe_offset(dim // 2), dim // 2)


def place_token(
    engine: Engine, batch: Batch, layer: Layer, index: Int, token: Int
):
    """Norm and rotate a token's queries and key; put key and value away.

    A layer that reads another's keys and values has queries only.
    """
    var t = Int(engine.options.max_tokens)
    var pairs = engine.widths.pairs
    var cosines = engine.angles.unsafe_offset(
        (Int(layer.rope) * t + token) * 2 * pairs
    )
    var q = token_row(engine.q, token, layer.q_dim())
    var k = token_row(engine.k, token, layer.kv_dim())
    var v = token_row(engine.v, token, layer.kv_dim())
    norm_and_rope(engine, layer, q, Int(layer.n_heads), layer.q_norm, cosines)
    if layer.kv_back > 0:
        return
    if not layer.v_proj.data:
        copy(v, k, layer.kv_dim())
    norm_and_rope(
        engine, layer, k, Int(layer.n_kv_heads), layer.k_norm, cosines
    )
    if layer.v_norm:
        norm_heads(
            engine, layer, v, Int(layer.n_kv_heads), layer.v_norm.unsafe_value()
        )
    var home = home_of(engine, batch, layer, index, token)
    var slot = Int(engine.positions[unsafe_offset=token]) % home.place.n_slots
    if home.format == 0:
        store_token[DType.float32](home, layer, slot, k, v)
    elif home.format == 1:
        store_token[DType.float16](home, layer, slot, k, v)
    else:
        store_token[DType.bfloat16](home, layer, slot, k, v)


@fieldwise_init
struct Home(TrivialRegisterPassable):
    """Where the keys and values of a sequence's layer are kept."""

    var memory: BytePtr
    var place: LayerCache
    var format: Int32


def home_of(
    engine: Engine, batch: Batch, layer: Layer, index: Int, token: Int
) -> Home:
    """The cache of a token's sequence, or the engine's memory for one call.

    In it the place of the layer whose keys and values this one reads.
    """
    var place = engine.caches[unsafe_offset=index - Int(layer.kv_back)]
    var sequence = Int(engine.owners[unsafe_offset=token])
    var cache = batch.sequence(sequence).cache
    if cache:
        return Home(
            cache.unsafe_value(),
            place,
            engine.options.cache_format,
        )
    # Each sequence has rows of its own, for all kv heads in turn.
    var row_bytes = 4 * layer.kv_dim()
    var first = Int(engine.first_rows[unsafe_offset=sequence])
    var n_rows = Int(engine.first_rows[unsafe_offset=sequence + 1]) - first
    var memory = engine.passing.unsafe_offset(
        place.passing * engine.passing_bytes + 2 * first * row_bytes
    )
    return Home(memory, LayerCache(0, n_rows * row_bytes, n_rows, 0), 0)


def store_token[
    dtype: DType
](home: Home, layer: Layer, slot: Int, k: F32Ptr, v: F32Ptr):
    """Put away the keys and values of all kv heads of a token."""
    var dim = Int(layer.head_dim)
    for h in range(Int(layer.n_kv_heads)):
        var kv = home.place.head[dtype](home.memory, dim, h)
        store_key(kv, slot, k.unsafe_offset(h * dim), dim)
        store_value(kv, slot, v.unsafe_offset(h * dim), dim)


def share_attention(
    engine: Engine,
    batch: Batch,
    layer: Layer,
    index: Int,
    n_tokens: Int,
    thread: Int,
):
    """Attention of all heads of all tokens.

    A piece of work is a tile: some tokens of one sequence, and heads of one kv
    head: all of them, unless there are too few tiles for the threads.
    """
    var group = Int(layer.n_heads) // Int(layer.n_kv_heads)
    var heads = min(group, MAX_QUERIES)
    var tokens = MAX_QUERIES // heads
    var n_threads = engine.team[].n_threads
    if (n_tokens // tokens + 1) * Int(layer.n_kv_heads) < n_threads:
        heads = max(1, min(heads, Int(layer.n_heads) // n_threads))
    while group % heads != 0:
        heads -= 1
    var head_tiles = Int(layer.n_heads) // heads
    var piece = engine.team[].take()
    var before = 0
    for s in range(Int(batch.n_sequences)):
        var n = Int(batch.sequence(s).n_tokens)
        var tiles = (n + tokens - 1) // tokens
        while piece - before < tiles * head_tiles:
            # Late tiles see most: they come first.
            var tile = tiles - 1 - (piece - before) // head_tiles
            var head = (piece - before) % head_tiles * heads
            attend_tile(
                engine,
                batch,
                layer,
                index,
                Tile(s, tile * tokens, tokens, head, heads, Tile.ALL_SEGMENTS),
                thread,
            )
            piece = engine.team[].take()
        before += tiles * head_tiles


@always_inline
def segments_seen(batch: Batch, layer: Layer) -> Sight:
    """The segments that the batch's only token sees; none if it has more."""
    var sequence = batch.sequence(0)
    if Int(batch.n_sequences) > 1 or Int(sequence.n_tokens) > 1:
        return Sight(0, -1)
    var position = Int(sequence.position)
    return Sight(
        max(0, position - Int(layer.n_before)) // SEGMENT, position // SEGMENT
    )


def splits_segments(engine: Engine, batch: Batch, layer: Layer) -> Bool:
    """Whether threads share out segments: where kv heads are too few for them.

    All query heads of a kv head then read a segment together.
    """
    var seen = segments_seen(batch, layer)
    var n_threads = engine.team[].n_threads
    return (
        n_threads > 1
        and seen.last > seen.first
        and Int(layer.n_kv_heads) < 2 * n_threads
        and Int(layer.n_heads) // Int(layer.n_kv_heads) <= MAX_QUERIES
    )


def share_segments(
    engine: Engine, batch: Batch, layer: Layer, index: Int, thread: Int
):
    """Attention of one token, a segment of a kv head at a time."""
    var seen = segments_seen(batch, layer)
    var n_segments = seen.last - seen.first + 1
    var group = Int(layer.n_heads) // Int(layer.n_kv_heads)
    var piece = engine.team[].take()
    while piece < n_segments * Int(layer.n_kv_heads):
        var segment = piece % n_segments
        var head = piece // n_segments * group
        attend_tile(
            engine,
            batch,
            layer,
            index,
            Tile(0, 0, 1, head, group, seen.first + segment),
            thread,
        )
        piece = engine.team[].take()


def join_heads(engine: Engine, batch: Batch, layer: Layer):
    """The heads' results from those of their segments."""
    var seen = segments_seen(batch, layer)
    var dim = Int(layer.head_dim)
    var head = engine.team[].take()
    while head < Int(layer.n_heads):
        join_segments(
            engine.parts.unsafe_offset(head * part_floats(dim)),
            seen.last - seen.first + 1,
            Int(layer.n_heads) * part_floats(dim),
            engine.attended.unsafe_offset(head * dim),
            dim,
        )
        head = engine.team[].take()


@fieldwise_init
struct Tile(TrivialRegisterPassable):
    """A piece of a layer's attention."""

    var sequence: Int
    var token: Int
    """The first, counted from the sequence's first in this call."""
    var n_tokens: Int
    """At most; the last tile of a sequence has what is left."""
    var head: Int
    var n_heads: Int
    var segment: Int
    """The only one that is looked at; ALL_SEGMENTS: all that there are."""

    comptime ALL_SEGMENTS = -1


def attend_tile(
    engine: Engine,
    batch: Batch,
    layer: Layer,
    index: Int,
    tile: Tile,
    thread: Int,
):
    """Attention of a tile, wherever its keys and values are."""
    var sequence = batch.sequence(tile.sequence)
    var token = Int(engine.first_tokens[unsafe_offset=tile.sequence])
    token += tile.token
    var at = token * layer.q_dim() + tile.head * Int(layer.head_dim)
    var queries = Queries(
        q=engine.q.unsafe_offset(at),
        result=engine.attended.unsafe_offset(at),
        token_stride=layer.q_dim(),
        n_tokens=min(tile.n_tokens, Int(sequence.n_tokens) - tile.token),
        n_heads=tile.n_heads,
        head_dim=Int(layer.head_dim),
        position=Int(sequence.position) + tile.token,
        n_before=Int(layer.n_before),
        n_after=Int(layer.n_after),
        n_positions=Int(sequence.position) + Int(sequence.n_tokens),
    )
    var home = home_of(engine, batch, layer, index, token)
    if home.format == 0:
        attend_from[DType.float32](
            engine, batch, layer, home, queries, tile, thread
        )
    elif home.format == 1:
        attend_from[DType.float16](
            engine, batch, layer, home, queries, tile, thread
        )
    else:
        attend_from[DType.bfloat16](
            engine, batch, layer, home, queries, tile, thread
        )


def attend_from[
    dtype: DType
](
    engine: Engine,
    batch: Batch,
    layer: Layer,
    home: Home,
    queries: Queries,
    tile: Tile,
    thread: Int,
):
    """Attention over keys and values of this type."""
    var kv_head = tile.head // (Int(layer.n_heads) // Int(layer.n_kv_heads))
    var kv = home.place.head[dtype](home.memory, queries.head_dim, kv_head)
    var memory = engine.workspace_of(thread)
    if tile.segment == Tile.ALL_SEGMENTS:
        attend(
            kv,
            queries,
            layer.attention_scale,
            layer.attention_softcap,
            memory,
        )
        return
    var row = tile.segment - segments_seen(batch, layer).first
    var place = row * Int(layer.n_heads) + tile.head
    attend_segment(
        kv,
        queries,
        tile.segment,
        layer.attention_scale,
        layer.attention_softcap,
        engine.parts.unsafe_offset(place * part_floats(queries.head_dim)),
        memory,
    )
