"""The integer dot-product step, by whatever instruction the target has."""

from std.memory import bitcast
from std.sys import CompilationTarget, llvm_intrinsic

from formats.rows import Bytes, LANES
from runtime.views import I8, I16, I32, U8

comptime Sums = SIMD[I32, LANES]
comptime Values = SIMD[I8, 4 * LANES]

comptime VNNI_512 = CompilationTarget._has_feature["avx512vnni"]()
comptime VNNI_256 = CompilationTarget._has_feature["avxvnni"]()
comptime BW_512 = CompilationTarget._has_feature["avx512bw"]()
comptime AVX2 = CompilationTarget.has_avx2()
comptime SDOT = CompilationTarget.has_neon_int8_dotprod()


@always_inline
def pairs_512(w: SIMD[U8, 64], x: SIMD[I8, 64]) -> SIMD[I32, 16]:
    """Sums of four products by way of saturating 16-bit pairs."""
    var pairs = llvm_intrinsic["llvm.x86.avx512.pmaddubs.w.512", SIMD[I16, 32]](
        w, x
    )
    return llvm_intrinsic["llvm.x86.avx512.pmaddw.d.512", SIMD[I32, 16]](
        pairs, SIMD[I16, 32](1)
    )


@always_inline
def pairs_256(w: SIMD[U8, 32], x: SIMD[I8, 32]) -> SIMD[I32, 8]:
    """The same for half as many rows."""
    var pairs = llvm_intrinsic["llvm.x86.avx2.pmadd.ub.sw", SIMD[I16, 16]](w, x)
    return llvm_intrinsic["llvm.x86.avx2.pmadd.wd", SIMD[I32, 8]](
        pairs, SIMD[I16, 16](1)
    )


@always_inline
def dot_unsigned(acc: Sums, w: Bytes, x: Values) -> Sums:
    """Add to lane i the four products w[4i .. 4i + 3] * x[4i .. 4i + 3].

    `w` is below 128 unless the target has VNNI, for pairs must not saturate.
    """
    comptime if VNNI_512:
        return llvm_intrinsic["llvm.x86.avx512.vpdpbusd.512", Sums](acc, w, x)
    elif BW_512:
        return acc + pairs_512(w, x)
    elif VNNI_256:
        var low = llvm_intrinsic["llvm.x86.avx512.vpdpbusd.256", SIMD[I32, 8]](
            acc.slice[8](), w.slice[32](), x.slice[32]()
        )
        var high = llvm_intrinsic["llvm.x86.avx512.vpdpbusd.256", SIMD[I32, 8]](
            acc.slice[8, offset=8](),
            w.slice[32, offset=32](),
            x.slice[32, offset=32](),
        )
        return rebind[Sums](low.join(high))
    elif AVX2:
        var low = pairs_256(w.slice[32](), x.slice[32]())
        var high = pairs_256(w.slice[32, offset=32](), x.slice[32, offset=32]())
        return acc + rebind[Sums](low.join(high))
    else:
        return dot_signed(acc, bitcast[I8, 4 * LANES](w), x)


@always_inline
def quarter_dot[
    quarter: Int
](acc: Sums, w: Values, x: Values) -> SIMD[I32, LANES // 4]:
    return llvm_intrinsic[
        "llvm.aarch64.neon.sdot.v4i32.v16i8", SIMD[I32, LANES // 4]
    ](
        acc.slice[LANES // 4, offset=quarter * LANES // 4](),
        w.slice[LANES, offset=quarter * LANES](),
        x.slice[LANES, offset=quarter * LANES](),
    )


@always_inline
def dot_signed(acc: Sums, w: Values, x: Values) -> Sums:
    """The same for signed weights; `x` never holds -128."""
    comptime if SDOT:
        var low = quarter_dot[0](acc, w, x).join(quarter_dot[1](acc, w, x))
        var high = quarter_dot[2](acc, w, x).join(quarter_dot[3](acc, w, x))
        return rebind[Sums](low.join(high))
    elif AVX2:
        # The instructions want one side unsigned: the signs of w go to x.
        return dot_unsigned(
            acc, bitcast[U8, 4 * LANES](abs(w)), w.lt(0).select(-x, x)
        )
    else:
        var pairs = (w.cast[I32]() * x.cast[I32]()).deinterleave()
        var sums = (pairs[0] + pairs[1]).deinterleave()
        return acc + rebind[Sums](sums[0] + sums[1])


@always_inline
def dot4[is_wide: Bool](acc: Sums, w: Bytes, x: Values) -> Sums:
    """The dot product step for values as they lie in a tile.

    Wide values are unsigned where the target has VNNI and signed elsewhere
    (`formats.tile.UNSIGNED_BYTES`).
    """
    comptime if is_wide and not (VNNI_512 or VNNI_256):
        return dot_signed(acc, bitcast[I8, 4 * LANES](w), x)
    else:
        return dot_unsigned(acc, w, x)
