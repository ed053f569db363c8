"""Attention against a plain softmax in float64; tiles and rings change nothing."""

from std.math import exp
from std.utils.numerics import nan
from std.testing import TestSuite, assert_almost_equal, assert_equal

from memory import Random, some_bytes, some_floats
from model.kv_cache import store_key, store_value
from ops.attention import (
    SEGMENT,
    attend,
    attend_segment,
    join_segments,
    part_floats,
)
from ops.attention_tile import (
    MAX_QUERIES,
    KeyValues,
    Queries,
    workspace_bytes,
)
from ops.pairs import round_to_bfloat16
from runtime.views import BytePtr, F32Ptr

comptime SCALE = Float32(0.3)
comptime ALL = 1 << 31


@fieldwise_init
struct Sizes(Copyable):
    """A sequence with keys and values, and a tile of its last queries."""

    var n_positions: Int
    var n_tokens: Int
    var n_heads: Int
    var head_dim: Int
    var n_before: Int
    var n_after: Int
    var cap: Float32

    def first(self) -> Int:
        """The position of the tile's first token."""
        return self.n_positions - self.n_after - self.n_tokens


struct Sequence:
    """The numbers for some sizes. The cache holds the last `n_slots` positions."""

    var keys: F32Ptr
    """[n_positions, head_dim]."""
    var values: F32Ptr
    var q: F32Ptr
    """[n_tokens, n_heads, head_dim]."""
    var sizes: Sizes

    def __init__(out self, sizes: Sizes):
        var random = Random(sizes.n_positions + sizes.head_dim)
        self.keys = random.floats(sizes.n_positions * sizes.head_dim, 2)
        self.values = random.floats(sizes.n_positions * sizes.head_dim)
        self.q = random.floats(
            sizes.n_tokens * sizes.n_heads * sizes.head_dim, 2
        )
        self.sizes = sizes.copy()

    def cache[dtype: DType](self, n_slots: Int) -> KeyValues[dtype]:
        """What the model keeps of the last `n_slots` positions."""
        var dim = self.sizes.head_dim
        var keys = some_floats(n_slots * dim).unsafe_bitcast[Scalar[dtype]]()
        var values = some_floats(n_slots * dim).unsafe_bitcast[Scalar[dtype]]()
        var kv = KeyValues[dtype](keys, values, n_slots)
        for p in range(self.sizes.n_positions):
            var slot = p % n_slots
            store_key(kv, slot, self.keys.unsafe_offset(p * dim), dim)
            store_value(kv, slot, self.values.unsafe_offset(p * dim), dim)
        return kv

    def round(self):
        """Make all numbers such that bfloat16 has them."""
        var n = self.sizes.n_positions * self.sizes.head_dim
        for i in range(n):
            self.keys[unsafe_offset=i] = round_to_bfloat16(
                self.keys[unsafe_offset=i]
            )
            self.values[unsafe_offset=i] = round_to_bfloat16(
                self.values[unsafe_offset=i]
            )
        var n_q = self.sizes.n_tokens * self.sizes.n_heads
        for i in range(n_q * self.sizes.head_dim):
            self.q[unsafe_offset=i] = round_to_bfloat16(self.q[unsafe_offset=i])

    def queries(self, result: F32Ptr, first: Int, n_tokens: Int) -> Queries:
        """Some tokens of the tile."""
        var width = self.sizes.n_heads * self.sizes.head_dim
        return Queries(
            self.q.unsafe_offset(first * width),
            result,
            width,
            n_tokens,
            self.sizes.n_heads,
            self.sizes.head_dim,
            self.sizes.first() + first,
            self.sizes.n_before,
            self.sizes.n_after,
            self.sizes.n_positions,
        )

    def attended[
        dtype: DType
    ](self, n_slots: Int, first: Int, n_tokens: Int) -> F32Ptr:
        """Results of some tokens of the tile, [n_tokens, n_heads, head_dim]."""
        var width = self.sizes.n_heads * self.sizes.head_dim
        var result = some_floats(n_tokens * width)
        attend[dtype](
            self.cache[dtype](n_slots),
            self.queries(result, first, n_tokens),
            SCALE,
            self.sizes.cap,
            some_bytes(workspace_bytes(self.sizes.head_dim)),
        )
        return result

    def plain(self, token: Int, head: Int) -> List[Float64]:
        """The result of one query, by its definition."""
        var dim = self.sizes.head_dim
        var q = self.q.unsafe_offset((token * self.sizes.n_heads + head) * dim)
        var position = self.sizes.first() + token
        var total = Float64(0)
        var result = List[Float64](length=dim, fill=0)
        for p in range(self.sizes.n_positions):
            if (
                p < position - self.sizes.n_before
                or p > position + self.sizes.n_after
            ):
                continue
            var score = Float64(0)
            for d in range(dim):
                score += Float64(q[unsafe_offset=d]) * Float64(
                    self.keys[unsafe_offset=p * dim + d]
                )
            score *= Float64(SCALE)
            if self.sizes.cap > 0:
                var e = exp(2 * score / Float64(self.sizes.cap))
                score = Float64(self.sizes.cap) * (e - 1) / (e + 1)
            var weight = exp(score)
            total += weight
            for d in range(dim):
                result[d] += weight * Float64(
                    self.values[unsafe_offset=p * dim + d]
                )
        for d in range(dim):
            result[d] /= total
        return result^


def check_plain(sizes: Sizes) raises:
    check_type[DType.float32](sizes, 2e-5)
    # Weights are rounded: half a step of 2 ** -8, of values up to 1.
    check_type[DType.bfloat16](sizes, 0.002)


def check_type[dtype: DType](sizes: Sizes, bound: Float64) raises:
    var sequence = Sequence(sizes)
    comptime if dtype == DType.bfloat16:
        sequence.round()
    var dim = sizes.head_dim
    var slots = (sizes.n_positions + 31) // 32 * 32
    var got = sequence.attended[dtype](slots, 0, sizes.n_tokens)
    for token in range(sizes.n_tokens):
        for head in range(sizes.n_heads):
            var expected = sequence.plain(token, head)
            for d in range(dim):
                assert_almost_equal(
                    got[unsafe_offset=(token * sizes.n_heads + head) * dim + d],
                    Float32(expected[d]),
                    atol=bound,
                )


def check_same(sizes: Sizes, a: F32Ptr, b: F32Ptr, n_tokens: Int) raises:
    for i in range(n_tokens * sizes.n_heads * sizes.head_dim):
        assert_equal(a[unsafe_offset=i], b[unsafe_offset=i])


def test_attention_is_a_softmax_over_what_a_query_sees() raises:
    for n in [1, 2, 31, 32, 33, 64, 100]:
        for n_tokens in [1, 2, 5, MAX_QUERIES // 4]:
            if n_tokens <= n:
                check_plain(Sizes(n, n_tokens, 1, 16, ALL, 0, 0))
                check_plain(Sizes(n, n_tokens, 4, 32, 7, 0, 0))


def test_segments_are_joined_to_one_softmax() raises:
    for n in [1023, 1024, 1025, 2200]:
        check_plain(Sizes(n, 1, 2, 16, ALL, 0, 0))
        check_plain(Sizes(n, 12, 1, 16, ALL, 0, 0))
        check_plain(Sizes(n, 3, 1, 16, 1030, 0, 0))


def check_apart[dtype: DType](sizes: Sizes) raises:
    """All heads of one token, a segment at a time, then joined."""
    var sequence = Sequence(sizes)
    var dim = sizes.head_dim
    var n_slots = (sizes.n_positions + 31) // 32 * 32
    var last = (sizes.n_positions - 1) // SEGMENT
    var first = max(0, sizes.n_positions - 1 - sizes.n_before) // SEGMENT
    var stride = sizes.n_heads * part_floats(dim)
    var parts = some_floats((last - first + 1) * stride)
    for segment in range(first, last + 1):
        attend_segment(
            sequence.cache[dtype](n_slots),
            sequence.queries(sequence.q, 0, 1),
            segment,
            SCALE,
            sizes.cap,
            parts.unsafe_offset((segment - first) * stride),
            some_bytes(workspace_bytes(dim)),
        )
    var joined = some_floats(sizes.n_heads * dim)
    for head in range(sizes.n_heads):
        join_segments(
            parts.unsafe_offset(head * part_floats(dim)),
            last - first + 1,
            stride,
            joined.unsafe_offset(head * dim),
            dim,
        )
    check_same(sizes, joined, sequence.attended[dtype](n_slots, 0, 1), 1)


def test_segments_may_be_seen_apart_and_joined_after() raises:
    """To the bit: threads share them out, one thread takes them in turn."""
    for n in [1025, 3000]:
        for n_before in [ALL, 1500]:
            var sizes = Sizes(n, 1, 4, 32, n_before, 0, 0)
            check_apart[DType.float16](sizes)
            check_apart[DType.bfloat16](sizes)


def test_queries_may_see_what_comes_after_them() raises:
    check_plain(Sizes(70, 4, 2, 16, 9, 9, 0))
    check_plain(Sizes(70, 1, 2, 16, ALL, 40, 0))


def test_scores_are_capped() raises:
    check_plain(Sizes(77, 3, 2, 16, ALL, 0, 1.5))


def check_alone[dtype: DType](sizes: Sizes) raises:
    var sequence = Sequence(sizes)
    var width = sizes.n_heads * sizes.head_dim
    var together = sequence.attended[dtype](1120, 0, 16)
    for n_tokens in [1, 2, 7]:
        for first in range(0, 16 - n_tokens, n_tokens):
            check_same(
                sizes,
                sequence.attended[dtype](1120, first, n_tokens),
                together.unsafe_offset(first * width),
                n_tokens,
            )


def test_a_query_gets_the_same_alone_and_in_any_tile() raises:
    """To the bit: prefill and decode take tiles of different sizes."""
    for n_heads in [1, 3]:
        for n_before in [ALL, 11, 40]:
            var sizes = Sizes(1100, 16, n_heads, 48, n_before, 0, 0)
            check_alone[DType.float16](sizes)
            check_alone[DType.bfloat16](sizes)


def test_nobody_sees_the_other_half_of_a_pair() raises:
    """Slots that were never written, or hold what a window has left behind."""
    var sizes = Sizes(75, 2, 2, 16, 8, 0, 0)
    var sequence = Sequence(sizes)
    var expected = sequence.attended[DType.bfloat16](96, 0, 2)
    for i in range(16 * 65):
        sequence.keys[unsafe_offset=i] = nan[DType.float32]()
        sequence.values[unsafe_offset=i] = nan[DType.float32]()
    check_same(sizes, sequence.attended[DType.bfloat16](96, 0, 2), expected, 2)


def test_a_ring_gives_the_same_as_a_cache_that_never_wraps() raises:
    for n_slots in [64, 96, 160]:
        var sizes = Sizes(333, 8, 2, 16, n_slots - 8, 0, 0)
        var sequence = Sequence(sizes)
        check_same(
            sizes,
            sequence.attended[DType.bfloat16](n_slots, 0, 8),
            sequence.attended[DType.bfloat16](352, 0, 8),
            8,
        )


def test_great_scores_do_not_overflow() raises:
    """Thousands apart, they leave all the weight to one key."""
    var sizes = Sizes(50, 1, 1, 16, ALL, 0, 0)
    var sequence = Sequence(sizes)
    for d in range(16):
        sequence.q[unsafe_offset=d] *= 1e5
    var best = 0
    var best_score = Float64.MIN_FINITE
    for p in range(50):
        var score = Float64(0)
        for d in range(16):
            score += Float64(sequence.q[unsafe_offset=d]) * Float64(
                sequence.keys[unsafe_offset=p * 16 + d]
            )
        if score > best_score:
            best = p
            best_score = score
    var got = sequence.attended[DType.float32](64, 0, 1)
    for d in range(16):
        assert_almost_equal(
            got[unsafe_offset=d],
            sequence.values[unsafe_offset=best * 16 + d],
            atol=1e-6,
        )


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
