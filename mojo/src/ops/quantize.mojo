"""Activations as int8, with a scale for each 32."""

from std.memory import bitcast

from runtime.views import F32, I8, I16, I32, U32, BytePtr, floats

comptime BLOCK = 32
"""Activations that share a scale."""

comptime X_BLOCK_BYTES = 48
"""A block: float32 scale, float32 scale * sum of the first 16 values, the same
of the last 16, both sums as int16, then 32 x int8. Formats with a zero point or
a minimum need the sums; those whose halves have own scales need both."""

comptime X_VALUES = 16
"""Where in a block the values begin."""


@always_inline
def quantize_block(x: Pointer[Float32, _], block: BytePtr):
    """Write 32 activations as round(x / scale), scale = max |x| / 127."""
    var v = x.unsafe_load[width=BLOCK]()
    # Magnitudes compare alike as integers, and there are no rules for NaN.
    var top = bitcast[F32, 1](
        (bitcast[U32, BLOCK](v) & 0x7FFFFFFF).reduce_max()
    )
    var inverse = Float32(127) / top if top > 1e-30 else Float32(0)
    var scale = top * Float32(1.0 / 127)
    var q = round(v * inverse).cast[I32]()
    var first = q.slice[16]().reduce_add()
    var last = q.slice[16, offset=16]().reduce_add()
    var head = floats(block)
    head[unsafe_offset=0] = scale
    head[unsafe_offset=1] = scale * first.cast[F32]()
    head[unsafe_offset=2] = scale * last.cast[F32]()
    var sums = block.unsafe_bitcast[Int16]()
    sums[unsafe_offset=6] = first.cast[I16]()
    sums[unsafe_offset=7] = last.cast[I16]()
    block.unsafe_bitcast[Int8]().unsafe_store(X_VALUES, q.cast[I8]())


def quantize_row(x: Pointer[Float32, _], n: Int, blocks: BytePtr):
    """Write n activations, a multiple of 32, as n / 32 blocks."""
    for b in range(n // BLOCK):
        quantize_block(
            x.unsafe_offset(BLOCK * b), blocks.unsafe_offset(X_BLOCK_BYTES * b)
        )


@always_inline
def quantized_bytes(n: Int) -> Int:
    """Bytes of n activations as blocks."""
    return n // BLOCK * X_BLOCK_BYTES
