"""One layer: norm, attention, norm, MLP and the residuals between.

Every function here is one phase, run by all threads of the team at once;
`forward.mojo` puts the barriers between them.
"""

from model.engine import Engine
from model.kv_cache import LayerCache, store
from model.spec import ALL, Batch, Layer, Weights
from ops.attention import Ring, attend
from ops.geglu import geglu
from ops.matmul import Activations, Product, share_products
from ops.quantize import quantize_row, quantized_bytes
from ops.rms_norm import add, add_rms_norm, rms_norm
from ops.rope import rope
from runtime.views import BytePtr, F32Ptr

comptime NO_RING = 1 << 40
"""Slots of a cache that never wraps: keys that live for one call."""


@always_inline
def token_row(base: F32Ptr, token: Int, width: Int) -> F32Ptr:
    return base.unsafe_offset(token * width)


@always_inline
def quantize_token(engine: Engine, x: F32Ptr, n: Int, token: Int):
    """Write a token's activations as int8 blocks."""
    quantize_row(x, n, engine.blocks.unsafe_offset(token * quantized_bytes(n)))


def add_branch(engine: Engine, token: Int, norm: Weights):
    """Add the branch of a token to its residual, through its norm if any."""
    var d = Int(engine.model[].hidden_dim)
    var residual = token_row(engine.residual, token, d)
    var branch = token_row(engine.branch, token, d)
    if norm:
        add_rms_norm(
            residual,
            branch,
            norm.unsafe_value(),
            d,
            engine.model[].norm_epsilon,
        )
    else:
        add(residual, branch, d)


def norm_token(engine: Engine, token: Int, norm: Weights, as_blocks: Bool):
    """Norm the residual of a token, and quantise it for the products."""
    var d = Int(engine.model[].hidden_dim)
    var normed = token_row(engine.normed, token, d)
    rms_norm(
        normed,
        token_row(engine.residual, token, d),
        norm.unsafe_value(),
        d,
        engine.model[].norm_epsilon,
    )
    if as_blocks:
        quantize_token(engine, normed, d, token)


def norm_for_attention(engine: Engine, layer: Layer, token: Int):
    var as_blocks = (
        engine.wants_blocks(layer.q_proj)
        or engine.wants_blocks(layer.k_proj)
        or engine.wants_blocks(layer.v_proj)
    )
    norm_token(engine, token, layer.attention_norm, as_blocks)


def share_qkv(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """Queries, keys and values of all tokens."""
    var products = Array[Product, 3](
        fill=Product(layer.q_proj, engine.q, layer.q_dim())
    )
    products[1] = Product(layer.k_proj, engine.k, layer.kv_dim())
    products[2] = Product(layer.v_proj, engine.v, layer.kv_dim())
    share_products[3](
        engine.team,
        products,
        Activations(engine.normed, engine.blocks, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


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
    for h in range(n_heads):
        var head = heads.unsafe_offset(h * dim)
        if norm:
            rms_norm(
                head,
                head,
                norm.unsafe_value(),
                dim,
                engine.model[].norm_epsilon,
            )
        rope(head, cosines, cosines.unsafe_offset(dim // 2), dim // 2)


def place_token(
    engine: Engine, batch: Batch, layer: Layer, index: Int, token: Int
):
    """Norm and rotate a token's queries and key; put key and value away."""
    var t = Int(engine.options.max_tokens)
    var pairs = engine.widths.pairs
    var cosines = engine.angles.unsafe_offset(
        (Int(layer.rope) * t + token) * 2 * pairs
    )
    var q = token_row(engine.q, token, layer.q_dim())
    var k = token_row(engine.k, token, layer.kv_dim())
    var v = token_row(engine.v, token, layer.kv_dim())
    norm_and_rope(engine, layer, q, Int(layer.n_heads), layer.q_norm, cosines)
    norm_and_rope(
        engine, layer, k, Int(layer.n_kv_heads), layer.k_norm, cosines
    )
    var cache = batch.sequence(Int(engine.owners[unsafe_offset=token])).cache
    if not cache:
        return
    var place = engine.caches[unsafe_offset=index]
    var slot = Int(engine.positions[unsafe_offset=token]) % place.n_slots
    var keys = cache.unsafe_value().unsafe_offset(place.keys)
    var values = cache.unsafe_value().unsafe_offset(place.values)
    if engine.options.cache_format == 0:
        store[DType.float32](keys, slot, k, layer.kv_dim())
        store[DType.float32](values, slot, v, layer.kv_dim())
    elif engine.options.cache_format == 1:
        store[DType.float16](keys, slot, k, layer.kv_dim())
        store[DType.float16](values, slot, v, layer.kv_dim())
    else:
        store[DType.bfloat16](keys, slot, k, layer.kv_dim())
        store[DType.bfloat16](values, slot, v, layer.kv_dim())


@fieldwise_init
struct Sight(TrivialRegisterPassable):
    """The positions that a query sees, first and last."""

    var first: Int
    var last: Int


@always_inline
def sight_of(layer: Layer, position: Int, n_positions: Int) -> Sight:
    """What position sees among `n_positions` that are there by now."""
    var first = max(0, position - Int(layer.n_before))
    return Sight(first, min(n_positions - 1, position + Int(layer.n_after)))


def attend_from[
    dtype: DType
](
    engine: Engine,
    layer: Layer,
    token: Int,
    head: Int,
    sight: Sight,
    keys: Ring[dtype],
    values: Ring[dtype],
):
    """Attention of one query head over keys of this type."""
    var dim = Int(layer.head_dim)
    var at = token * layer.q_dim() + head * dim
    attend[dtype](
        engine.attended.unsafe_offset(at),
        engine.q.unsafe_offset(at),
        keys,
        values,
        sight.first,
        sight.last,
        dim,
        layer.attention_scale,
        layer.attention_softcap,
    )


def attend_cached[
    dtype: DType
](
    engine: Engine,
    layer: Layer,
    place: LayerCache,
    cache: BytePtr,
    token: Int,
    head: Int,
    sight: Sight,
):
    """Attention over the keys and values of a cache."""
    var kv_head = head // (Int(layer.n_heads) // Int(layer.n_kv_heads))
    attend_from[dtype](
        engine,
        layer,
        token,
        head,
        sight,
        place.ring[dtype](cache, place.keys, layer, kv_head),
        place.ring[dtype](cache, place.values, layer, kv_head),
    )


def attend_head(
    engine: Engine,
    batch: Batch,
    layer: Layer,
    index: Int,
    token: Int,
    head: Int,
):
    """Attention of one query head of one token, wherever its keys are."""
    var sequence = batch.sequence(Int(engine.owners[unsafe_offset=token]))
    var position = Int(engine.positions[unsafe_offset=token])
    var n_positions = Int(sequence.position) + Int(sequence.n_tokens)
    var sight = sight_of(layer, position, n_positions)
    var place = engine.caches[unsafe_offset=index]
    if not sequence.cache:
        # Keys and values of this call, from the sequence's first token on.
        place = LayerCache(0, 0, NO_RING)
        var first = (token - position) * layer.kv_dim() * 4
        var kv_head = head // (Int(layer.n_heads) // Int(layer.n_kv_heads))
        var k = engine.k.unsafe_bitcast[UInt8]()
        var v = engine.v.unsafe_bitcast[UInt8]()
        attend_from[DType.float32](
            engine,
            layer,
            token,
            head,
            sight,
            place.ring[DType.float32](k, first, layer, kv_head),
            place.ring[DType.float32](v, first, layer, kv_head),
        )
        return
    var cache = sequence.cache.unsafe_value()
    if engine.options.cache_format == 0:
        attend_cached[DType.float32](
            engine, layer, place, cache, token, head, sight
        )
    elif engine.options.cache_format == 1:
        attend_cached[DType.float16](
            engine, layer, place, cache, token, head, sight
        )
    else:
        attend_cached[DType.bfloat16](
            engine, layer, place, cache, token, head, sight
        )


def share_attention(
    engine: Engine, batch: Batch, layer: Layer, index: Int, n_tokens: Int
):
    """Attention of all heads of all tokens."""
    var n_heads = Int(layer.n_heads)
    var piece = engine.team[].take()
    while piece < n_tokens * n_heads:
        attend_head(
            engine, batch, layer, index, piece // n_heads, piece % n_heads
        )
        piece = engine.team[].take()


def share_output(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """The branch of attention."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.o_proj, engine.branch, Int(engine.model[].hidden_dim)
            )
        ),
        Activations(engine.attended, engine.blocks, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def norm_for_mlp(engine: Engine, layer: Layer, token: Int):
    add_branch(engine, token, layer.post_attention_norm)
    var as_blocks = engine.wants_blocks(layer.gate_proj) or engine.wants_blocks(
        layer.up_proj
    )
    norm_token(engine, token, layer.mlp_norm, as_blocks)


def share_gate_and_up(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    var mlp = Int(layer.mlp_dim)
    var products = Array[Product, 2](
        fill=Product(layer.gate_proj, engine.gate, mlp)
    )
    products[1] = Product(layer.up_proj, engine.up, mlp)
    share_products[2](
        engine.team,
        products,
        Activations(engine.normed, engine.blocks, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )


def gate_token(engine: Engine, layer: Layer, token: Int):
    """The gate of one token, and its int8 blocks."""
    var mlp = Int(layer.mlp_dim)
    var gate = token_row(engine.gate, token, mlp)
    geglu(gate, token_row(engine.up, token, mlp), mlp)
    if engine.wants_blocks(layer.down_proj):
        quantize_token(engine, gate, mlp, token)


def share_down(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """The branch of the MLP."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.down_proj, engine.branch, Int(engine.model[].hidden_dim)
            )
        ),
        Activations(engine.gate, engine.blocks, n_tokens),
        engine.is_exact(),
        engine.scratch_of(thread),
    )
