"""The k best of many logits against repeated search."""

from std.testing import TestSuite, assert_equal, assert_false, assert_true
from std.utils.numerics import inf, nan, neg_inf

from memory import Random, some_bytes, some_floats
from ops.top_k import top_k
from runtime.views import F32Ptr


def check(logits: F32Ptr, n: Int, k: Int) raises:
    var ids = some_bytes(4 * k).unsafe_bitcast[Int32]()
    var values = some_floats(k)
    assert_true(top_k(logits, n, k, ids, values))
    var taken = List[Bool](length=n, fill=False)
    for rank in range(k):
        var best = -1
        for i in range(n):
            if not taken[i] and (
                best < 0 or logits[unsafe_offset=i] > logits[unsafe_offset=best]
            ):
                best = i
        taken[best] = True
        assert_equal(Int(ids[unsafe_offset=rank]), best)
        assert_equal(values[unsafe_offset=rank], logits[unsafe_offset=best])


def test_the_greatest_come_first_and_equal_ones_by_their_id() raises:
    for n in [1, 2, 15, 16, 17, 33, 100, 515]:
        var random = Random(n)
        var few_values = some_floats(n)
        for i in range(n):
            few_values[unsafe_offset=i] = Float32(random.below(4))
        for k in [1, 2, 7, 16, 40, n]:
            if k <= n:
                check(random.floats(n), n, k)
                check(few_values, n, k)


def test_what_is_not_finite_is_found_wherever_it_is() raises:
    var ids = some_bytes(64).unsafe_bitcast[Int32]()
    var values = some_floats(16)
    for at in [0, 4, 5, 15, 16, 31, 32, 40]:
        var logits = some_floats(41)
        logits[unsafe_offset=at] = nan[DType.float32]()
        assert_false(top_k(logits, 41, 5, ids, values))
        logits[unsafe_offset=at] = inf[DType.float32]()
        assert_false(top_k(logits, 41, 5, ids, values))
        logits[unsafe_offset=at] = neg_inf[DType.float32]()
        assert_true(top_k(logits, 41, 5, ids, values))


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
