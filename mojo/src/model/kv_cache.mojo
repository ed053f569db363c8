"""Keys and values of every layer: a ring where the window slides.

A cache is one stretch of the caller's memory: for each layer its keys, then
its values, each kv head on its own, laid out as `ops/attention.mojo` reads them.
Position p lies in slot p mod n_slots. The caller counts the positions; nothing
is stored beside them.
"""

from std.memory import bitcast

from model.spec import ALL, Layer, Model, Options
from ops.attention_pairs import pairs_of
from ops.attention_tile import KEY_BLOCK, KeyValues
from ops.pairs import pair_up, round_to_bfloat16
from formats.rows import LANES
from runtime.views import CACHE_LINE, F32, U16, U32, BytePtr, round_up

comptime WIDTH = 16


def n_slots(layer: Layer, options: Options) -> Int:
    """Positions that a layer's cache has room for.

    A sliding layer needs the window before the first token of a call and the
    tokens of that call.
    """
    var slots = Int(options.n_context)
    if Int(layer.n_before) != ALL:
        slots = min(slots, Int(layer.n_before) + Int(options.max_tokens))
    return round_up(slots, KEY_BLOCK)


def element_bytes(options: Options) -> Int:
    return 4 if options.cache_format == 0 else 2


def layer_bytes(layer: Layer, options: Options) -> Int:
    """Bytes of a layer's own keys; its values take the same."""
    if layer.kv_back > 0:
        return 0
    var elements = n_slots(layer, options) * layer.kv_dim()
    return round_up(elements * element_bytes(options), CACHE_LINE)


def cache_bytes(model: Model, options: Options) -> Int:
    """Bytes of the cache of one sequence."""
    var total = 0
    for i in range(Int(model.n_layers)):
        total += 2 * layer_bytes(model.layer(i)[], options)
    return total


def is_read_again(model: Model, index: Int) -> Bool:
    """Whether a later layer reads this one's keys and values."""
    for i in range(index + 1, Int(model.n_layers)):
        var back = Int(model.layer(i)[].kv_back)
        if back > 0 and i - back == index:
            return True
    return False


def n_passing(model: Model) -> Int:
    """Places for keys and values of sequences without a cache."""
    var n = 1
    for i in range(Int(model.n_layers)):
        if is_read_again(model, i):
            n += 1
    return n


@fieldwise_init
struct LayerCache(TrivialRegisterPassable):
    """Where a layer's keys and values lie in a cache."""

    var keys: Int
    """Byte offset."""
    var values: Int
    var n_slots: Int
    var passing: Int
    """Where those of a sequence without a cache are: layers whose keys others
    read have a place of their own, all others the first."""

    @always_inline
    def head[
        dtype: DType
    ](self, cache: BytePtr, head_dim: Int, kv_head: Int) -> KeyValues[dtype]:
        """Keys and values of one kv head."""
        var offset = kv_head * self.n_slots * head_dim
        return KeyValues[dtype](
            cache.unsafe_offset(self.keys)
            .unsafe_bitcast[Scalar[dtype]]()
            .unsafe_offset(offset),
            cache.unsafe_offset(self.values)
            .unsafe_bitcast[Scalar[dtype]]()
            .unsafe_offset(offset),
            self.n_slots,
        )


@always_inline
def rounded[dtype: DType](v: SIMD[F32, WIDTH]) -> SIMD[dtype, WIDTH]:
    """Numbers as a cache keeps them; float16 saturates.

    Values are not normed in every Gemma: what float16 cannot hold becomes its
    greatest number, never infinity.
    """
    comptime if dtype == DType.float16:
        comptime most = SIMD[F32, WIDTH](65504)
        return min(max(v, -most), most).cast[dtype]()
    else:
        return v.cast[dtype]()


def store_key[
    dtype: DType
](kv: KeyValues[dtype], slot: Int, key: Pointer[Float32, _], head_dim: Int):
    """Write a key, [head_dim], across the lanes of its slot's group."""
    comptime if dtype == DType.bfloat16:
        var to = pairs_of(kv.keys).unsafe_offset(
            slot // LANES * LANES * head_dim // 2 + slot % LANES
        )
        for d in range(0, head_dim, WIDTH):
            var pairs = pair_up(key.unsafe_load[width=WIDTH](d))
            comptime for i in range(WIDTH // 2):
                to[unsafe_offset=LANES * (d // 2 + i)] = pairs[i]
    else:
        var to = kv.keys.unsafe_offset(
            slot // LANES * LANES * head_dim + slot % LANES
        )
        for d in range(0, head_dim, WIDTH):
            var v = rounded[dtype](key.unsafe_load[width=WIDTH](d))
            comptime for i in range(WIDTH):
                to[unsafe_offset=LANES * (d + i)] = v[i]


def store_value[
    dtype: DType
](kv: KeyValues[dtype], slot: Int, value: Pointer[Float32, _], head_dim: Int):
    """Write a value, [head_dim]; of bfloat16 pairs, no other's half."""
    comptime if dtype == DType.bfloat16:
        var to = kv.values.unsafe_bitcast[UInt16]().unsafe_offset(
            slot // 2 * 2 * head_dim + slot % 2
        )
        for d in range(0, head_dim, WIDTH):
            var v = round_to_bfloat16(value.unsafe_load[width=WIDTH](d))
            var upper = (bitcast[U32, WIDTH](v) >> 16).cast[U16]()
            comptime for i in range(WIDTH):
                to[unsafe_offset=2 * (d + i)] = upper[i]
    else:
        var to = kv.values.unsafe_offset(slot * head_dim)
        for d in range(0, head_dim, WIDTH):
            to.unsafe_store(
                d, rounded[dtype](value.unsafe_load[width=WIDTH](d))
            )
