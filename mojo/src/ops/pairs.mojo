"""Products of bfloat16 numbers, two at a time, with sums in float32.

A pair is a word: the first number in its low half, the second in its high one.
"""

from std.memory import bitcast
from std.sys import CompilationTarget, llvm_intrinsic

from formats.rows import LANES, Vector, Words
from runtime.views import F32, U16, U32

comptime HAS_PAIRS = CompilationTarget._has_feature["avx512bf16"]()
"""Whether the target multiplies pairs; others take their numbers apart."""


@always_inline
def dot_pairs(acc: Vector, a: Words, b: Words) -> Vector:
    """Add to lane i the two products of pair i of `a` and of `b`.

    Both are fused additions, the second product's first: so does the
    instruction, but that it takes subnormal numbers for 0.
    """
    comptime if HAS_PAIRS:
        return llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", Vector](
            acc,
            bitcast[DType.bfloat16, 2 * LANES](a),
            bitcast[DType.bfloat16, 2 * LANES](b),
        )
    else:
        return first_of(a).fma(first_of(b), second_of(a).fma(second_of(b), acc))


@always_inline
def first_of(pairs: Words) -> Vector:
    """The first number of each pair, as float32."""
    return bitcast[F32, LANES](pairs << 16)


@always_inline
def second_of(pairs: Words) -> Vector:
    """The second number of each pair, as float32."""
    return bitcast[F32, LANES](pairs & 0xFFFF0000)


@always_inline
def round_to_bfloat16[
    width: SIMDLength
](x: SIMD[F32, width]) -> SIMD[F32, width]:
    """The nearest bfloat16, of two the even one, as float32.

    With integers: most CPU levels have no instruction for it, and that of others
    flushes subnormals.
    """
    var bits = bitcast[U32, width](x)
    var nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    # Rounding up could make an infinity of a NaN.
    var is_nan = (bits & 0x7FFFFFFF).gt(0x7F800000)
    return bitcast[F32, width](
        is_nan.select((bits & 0xFFFF0000) | 0x400000, nearest)
    )


@always_inline
def pair_up[width: SIMDLength](x: SIMD[F32, width]) -> SIMD[U32, width // 2]:
    """Neighbours as pairs, rounded to bfloat16."""
    var halves = bitcast[U32, width](round_to_bfloat16(x)).deinterleave()
    return rebind[SIMD[U32, width // 2]]((halves[0] >> 16) | halves[1])


@always_inline
def swap_neighbours[width: SIMDLength](x: SIMD[F32, width]) -> SIMD[F32, width]:
    """Numbers in the order in which `dot_pairs` multiplies them."""
    var halves = x.deinterleave()
    return rebind[SIMD[F32, width]](halves[1].interleave(halves[0]))
