"""Keys and values of every layer: a ring where the window slides.

A cache is one stretch of the caller's memory: for each layer its keys, then
its values, [n_slots, n_kv_heads * head_dim] each. Position p lies in slot
p mod n_slots. The caller counts the positions; nothing is stored beside them.
"""

from std.memory import bitcast

from model.spec import ALL, Layer, Model, Options
from ops.attention import Ring
from runtime.views import CACHE_LINE, F32, U16, U32, BytePtr, F32Ptr, round_up

comptime WIDTH = 16


def n_slots(layer: Layer, options: Options) -> Int:
    """Positions that a layer's cache has room for.

    A sliding layer needs the window before the first token of a call and the
    tokens of that call.
    """
    var context = Int(options.n_context)
    if Int(layer.n_before) == ALL:
        return context
    return min(context, Int(layer.n_before) + Int(options.max_tokens))


def element_bytes(options: Options) -> Int:
    return 4 if options.cache_format == 0 else 2


def layer_bytes(layer: Layer, options: Options) -> Int:
    """Bytes of a layer's keys; its values take the same."""
    var elements = n_slots(layer, options) * layer.kv_dim()
    return round_up(elements * element_bytes(options), CACHE_LINE)


def cache_bytes(model: Model, options: Options) -> Int:
    """Bytes of the cache of one sequence."""
    var total = 0
    for i in range(Int(model.n_layers)):
        total += 2 * layer_bytes(model.layer(i)[], options)
    return total


@fieldwise_init
struct LayerCache(TrivialRegisterPassable):
    """Where a layer's keys and values lie in a cache."""

    var keys: Int
    """Byte offset."""
    var values: Int
    var n_slots: Int

    @always_inline
    def ring[
        dtype: DType
    ](self, cache: BytePtr, byte: Int, layer: Layer, kv_head: Int) -> Ring[
        dtype
    ]:
        var head = kv_head * Int(layer.head_dim)
        var base = cache.unsafe_offset(byte).unsafe_bitcast[Scalar[dtype]]()
        return Ring[dtype](
            base.unsafe_offset(head), layer.kv_dim(), self.n_slots
        )


def store[
    dtype: DType
](cache: BytePtr, slot: Int, x: Pointer[Float32, _], n: Int):
    """Write n numbers, a multiple of 16, to a slot; float16 saturates.

    Values are not normed in every Gemma: what float16 cannot hold becomes its
    greatest number, never infinity. Bfloat16 is rounded here, to the nearest or
    even, since most CPU levels have no instruction for it.
    """
    var to = cache.unsafe_bitcast[Scalar[dtype]]().unsafe_offset(slot * n)
    for i in range(0, n, WIDTH):
        var v = x.unsafe_load[width=WIDTH](i)
        comptime if dtype == DType.float16:
            comptime most = Float32(65504)
            v = min(max(v, SIMD[F32, WIDTH](-most)), SIMD[F32, WIDTH](most))
        comptime if dtype == DType.bfloat16:
            var bits = bitcast[U32, WIDTH](v)
            var rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            to.unsafe_bitcast[UInt16]().unsafe_store(i, rounded.cast[U16]())
        else:
            to.unsafe_store(i, v.cast[dtype]())
