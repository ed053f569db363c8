"""Rows of activations, and columns of weights, as bfloat16."""

from std.memory import bitcast

from formats.rows import LANES, Vector, Words
from formats.tile import TILE_COLUMNS
from ops.pairs import round_to_bfloat16
from runtime.views import F32, U16, U32, BytePtr, round_up


@always_inline
def upper_halves[width: SIMDLength](x: SIMD[F32, width]) -> SIMD[U32, width]:
    """The nearest bfloat16 of each number, in the low half of a word."""
    return bitcast[U32, width](round_to_bfloat16(x)) >> 16


@always_inline
def pair(even: Vector, odd: Vector) -> Words:
    """Two columns of 16 rows, the even one in the low halves."""
    return upper_halves(even) | bitcast[U32, LANES](round_to_bfloat16(odd))


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
