"""Numbers as bfloat16, two of them a lane, and their dot-product step."""

from std.memory import bitcast
from std.sys import CompilationTarget, llvm_intrinsic

from formats.rows import LANES, Vector, Words
from formats.tile import TILE_COLUMNS
from runtime.views import F32, U16, U32, BytePtr, round_up

comptime BF16_512 = CompilationTarget._has_feature["avx512bf16"]()


@always_inline
def upper_halves[width: SIMDLength](x: SIMD[F32, width]) -> SIMD[U32, width]:
    """The bfloat16 nearest to each number, or even, in the low half of a word.

    With integers, because an instruction that rounds also flushes subnormals.
    """
    var bits = bitcast[U32, width](x)
    var nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding up could make an infinity of a NaN.
    var is_nan = (bits & 0x7FFFFFFF).gt(0x7F800000)
    return is_nan.select((bits >> 16) | 0x40, nearest)


@always_inline
def pair(even: Vector, odd: Vector) -> Words:
    """Two columns of 16 rows, the even one in the low halves."""
    return upper_halves(even) | (upper_halves(odd) << 16)


@always_inline
def dot2(acc: Vector, w: Words, x: Words) -> Vector:
    """Add to lane i the products of its two pairs, the even column's last."""
    comptime if BF16_512:
        return llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", Vector](
            acc,
            bitcast[DType.bfloat16, 2 * LANES](w),
            bitcast[DType.bfloat16, 2 * LANES](x),
        )
    else:
        var odd = bitcast[F32, LANES](w & 0xFFFF0000).fma(
            bitcast[F32, LANES](x & 0xFFFF0000), acc
        )
        return bitcast[F32, LANES](w << 16).fma(
            bitcast[F32, LANES](x << 16), odd
        )


@always_inline
def halves_bytes(n: Int) -> Int:
    """Bytes of a row of n numbers: whole tiles, what is missing is zero."""
    return 2 * round_up(n, TILE_COLUMNS)


def halve_row(x: Pointer[Float32, _], n: Int, row: BytePtr):
    """Write n numbers as bfloat16."""
    var to = row.unsafe_bitcast[UInt16]()
    var whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        var v = x.unsafe_load[width=LANES](i)
        to.unsafe_store(i, upper_halves(v).cast[U16]())
    for i in range(whole, round_up(n, TILE_COLUMNS)):
        to[unsafe_offset=i] = (
            upper_halves(x[unsafe_offset=i]).cast[U16]() if i < n else 0
        )
