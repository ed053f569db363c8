"""The pointers that cross the border: borrowed from the caller, never freed here."""

comptime BytePtr = Pointer[UInt8, MutUntrackedOrigin]
"""Bytes of a weight matrix, a KV cache or scratch memory."""

comptime F32Ptr = Pointer[Float32, MutUntrackedOrigin]
"""Activations, norms, logits."""

comptime I32Ptr = Pointer[Int32, MutUntrackedOrigin]
"""Token ids, and the words that threads share."""

comptime F32 = DType.float32
comptime I32 = DType.int32
comptime U32 = DType.uint32
comptime I16 = DType.int16
comptime U16 = DType.uint16
comptime I8 = DType.int8
comptime U8 = DType.uint8

comptime CACHE_LINE = 64
"""Bytes; what two threads write lives at least so far apart."""


@always_inline
def round_up(n: Int, unit: Int) -> Int:
    """The least multiple of `unit` that is not below `n`."""
    return (n + unit - 1) // unit * unit


@always_inline
def floats(place: BytePtr) -> F32Ptr:
    """The same address, seen as float32."""
    return place.unsafe_bitcast[Float32]()
