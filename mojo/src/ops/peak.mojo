"""The most that this processor can do: what a model's speed is compared with.

Multiply-accumulates of the dot-product instructions that products use, and
bytes read from memory; no kernel can be faster than the one that binds it
("roofline": Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785).
The loops do nothing else and keep all sums in registers.
"""

from std.memory import unsafe_stack_allocation
from std.sys import llvm_intrinsic, simd_width_of

from formats.rows import Bytes
from ops.dots import AVX2, BW_512, Sums, Values, dot4
from ops.pairs import HAS_PAIRS
from runtime.views import F32, I32, BytePtr, I32Ptr

comptime WIDTH = simd_width_of[F32]()
comptime Floats = SIMD[F32, WIDTH]

comptime N_SUMS = 12
"""Independent sums: two instructions a cycle wait for none of them."""

comptime N_INTEGER_SUMS = 3 if AVX2 and not BW_512 else N_SUMS
"""The same for `Sums`, which are two registers each where there are only 16."""

comptime N_OPERANDS = 64
"""Vectors that are taken in turn: all of them stay in the first-level cache."""

comptime N_STREAMS = 4
"""Places that memory is read from at once; one alone waits for its prefetcher."""

comptime READ_STEP = 64 * N_STREAMS
"""Bytes; memory to be read is a multiple of it."""


def int8_peak(n_steps: Int, kept: I32Ptr) -> Int:
    """Take so many steps of int8 dot products; returns how many products those are.

    `kept` is changed by their sums, or the compiler would leave them out.
    """
    var xs = unsafe_stack_allocation[N_OPERANDS * 64, Int8, alignment=64]()
    for i in range(N_OPERANDS * 64):
        xs[unsafe_offset=i] = Int8(i % 100 - 50)
    # Every sum has a factor of its own, or equal ones would be made once.
    var ws = Array[Bytes, N_INTEGER_SUMS](fill=Bytes(0))
    var sums = Array[Sums, N_INTEGER_SUMS](fill=Sums(0))
    comptime for i in range(N_INTEGER_SUMS):
        ws[i] = Bytes(UInt8(i + n_steps % 64))
        sums[i] = Sums(Int32(i))
    for step in range(n_steps):
        # Read anew: where the dot product is several instructions, the first
        # of them would not need the loop if no factor changed.
        var x = xs.unsafe_load[width=64, alignment=64](step % N_OPERANDS * 64)
        comptime for i in range(N_INTEGER_SUMS):
            sums[i] = dot4[False](sums[i], ws[i], x)
    comptime for i in range(N_INTEGER_SUMS):
        kept[] ^= sums[i].reduce_add()
    return n_steps * N_INTEGER_SUMS * 64


@always_inline
def multiply_add[
    T: DType, //, width: Int
](acc: Floats, w: SIMD[T, width], x: SIMD[T, width]) -> Floats:
    """Add products to lanes: one of float32 to each, or two of bfloat16."""
    comptime if T == F32:
        return rebind[Floats](w).fma(rebind[Floats](x), acc)
    else:
        return llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", Floats](
            acc, w, x
        )


def float_peak[T: DType](n_steps: Int, kept: I32Ptr) -> Int:
    """The same for float32 and bfloat16, with sums in float32."""
    comptime width = WIDTH if T == F32 else 2 * WIDTH
    var w = SIMD[T, width](Scalar[T](Float32(n_steps % 64) / 64))
    var x = SIMD[T, width](Scalar[T](Float32(n_steps % 32) / 32))
    var sums = Array[Floats, N_SUMS](fill=Floats(0))
    comptime for i in range(N_SUMS):
        sums[i] = Floats(Float32(i))
    for _ in range(n_steps):
        comptime for i in range(N_SUMS):
            sums[i] = multiply_add[width](sums[i], w, x)
    comptime for i in range(N_SUMS):
        kept[] ^= Int32(sums[i].reduce_add())
    return n_steps * N_SUMS * width


def bfloat16_peak(n_steps: Int, kept: I32Ptr) -> Int:
    """0 where the target has no such instruction."""
    comptime if HAS_PAIRS:
        return float_peak[DType.bfloat16](n_steps, kept)
    else:
        return 0


def read_memory(memory: BytePtr, n_bytes: Int, kept: I32Ptr) -> Int:
    """Read every byte once, from several places in turn; returns `n_bytes`.

    Args:
        memory: [n_bytes], on a 64-byte boundary.
        n_bytes: A multiple of READ_STEP.
        kept: Changed by what was read.
    """
    var stream = n_bytes // N_STREAMS // 4
    var words = memory.unsafe_bitcast[Int32]()
    var seen = Array[SIMD[I32, 16], N_STREAMS](fill=SIMD[I32, 16](0))
    for at in range(0, stream, 16):
        comptime for i in range(N_STREAMS):
            seen[i] ^= words.unsafe_load[width=16, alignment=64](
                i * stream + at
            )
    comptime for i in range(N_STREAMS):
        kept[] ^= seen[i].reduce_add()
    return n_bytes
