"""Pairs of bfloat16: rounded to the nearest, multiplied as two products."""

from std.testing import TestSuite, assert_almost_equal, assert_equal
from std.utils.numerics import inf, isnan, nan

from formats.rows import LANES, Vector, Words
from memory import Random
from ops.pairs import (
    dot_pairs,
    first_of,
    pair_up,
    round_to_bfloat16,
    second_of,
)
from runtime.views import F32


def test_a_number_goes_to_the_nearest_and_of_two_to_the_even() raises:
    var step = Float32(2.0**-7)
    assert_equal(round_to_bfloat16[1](1 + step), 1 + step)
    assert_equal(round_to_bfloat16[1](1 + Float32(0.49) * step), 1)
    assert_equal(round_to_bfloat16[1](1 + Float32(0.51) * step), 1 + step)
    assert_equal(round_to_bfloat16[1](1 + Float32(0.5) * step), 1)
    assert_equal(round_to_bfloat16[1](1 + Float32(1.5) * step), 1 + 2 * step)
    assert_equal(round_to_bfloat16[1](-1 - Float32(1.5) * step), -1 - 2 * step)
    assert_equal(round_to_bfloat16[1](inf[F32]()), inf[F32]())
    assert_equal(isnan(round_to_bfloat16[1](nan[F32]())), True)


def test_pairs_keep_their_order() raises:
    var numbers = SIMD[F32, 2 * LANES](0)
    for i in range(2 * LANES):
        numbers[i] = Float32(i) - 9
    var pairs = rebind[Words](pair_up(numbers))
    for i in range(LANES):
        assert_equal(first_of(pairs)[i], Float32(2 * i) - 9)
        assert_equal(second_of(pairs)[i], Float32(2 * i + 1) - 9)


def test_a_product_of_pairs_is_the_sum_of_both_products() raises:
    var random = Random(3)
    for _ in range(50):
        var a = SIMD[F32, 2 * LANES](0)
        var b = SIMD[F32, 2 * LANES](0)
        var before = Vector(0)
        for i in range(2 * LANES):
            a[i] = round_to_bfloat16[1](random.float())
            b[i] = round_to_bfloat16[1](random.float())
        for i in range(LANES):
            before[i] = random.float()
        var got = dot_pairs(
            before, rebind[Words](pair_up(a)), rebind[Words](pair_up(b))
        )
        for i in range(LANES):
            var expected = Float64(before[i])
            expected += Float64(a[2 * i]) * Float64(b[2 * i])
            expected += Float64(a[2 * i + 1]) * Float64(b[2 * i + 1])
            assert_almost_equal(got[i], Float32(expected), atol=3e-7)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
