"""Norms against a plain loop in float64, at sizes that are no whole vectors."""

from std.math import sqrt
from std.testing import TestSuite, assert_almost_equal, assert_equal

from memory import Random, some_floats
from ops.rms_norm import add, add_rms_norm, rms_norm
from runtime.views import F32Ptr

comptime EPSILON = Float32(1e-6)


def plain_norm(x: F32Ptr, weight: F32Ptr, n: Int, i: Int) -> Float32:
    var total = Float64(0)
    for j in range(n):
        total += Float64(x[unsafe_offset=j]) ** 2
    var rms = sqrt(total / Float64(n) + Float64(EPSILON))
    return Float32(
        Float64(x[unsafe_offset=i]) / rms * Float64(weight[unsafe_offset=i])
    )


def sizes() -> List[Int]:
    return [1, 2, 7, 15, 16, 17, 31, 33, 40, 256, 640, 1151]


def test_rms_norm_is_x_over_its_rms_times_the_weight() raises:
    for n in sizes():
        var random = Random(n)
        var x = random.floats(n, 30)
        var weight = random.floats(n, 2)
        var normed = some_floats(n)
        rms_norm(normed, x, weight, n, EPSILON)
        for i in range(n):
            assert_almost_equal(
                normed[unsafe_offset=i],
                plain_norm(x, weight, n, i),
                rtol=1e-6,
                atol=1e-7,
            )


def test_rms_norm_may_write_over_what_it_reads() raises:
    for n in sizes():
        var random = Random(n)
        var x = random.floats(n)
        var weight = random.floats(n)
        var normed = some_floats(n)
        rms_norm(normed, x, weight, n, EPSILON)
        rms_norm(x, x, weight, n, EPSILON)
        for i in range(n):
            assert_equal(x[unsafe_offset=i], normed[unsafe_offset=i])


def test_a_row_of_zeros_stays_zeros() raises:
    var x = some_floats(33)
    var random = Random(1)
    rms_norm(x, x, random.floats(33), 33, EPSILON)
    for i in range(33):
        assert_equal(x[unsafe_offset=i], 0)


def test_add_rms_norm_adds_the_normed_branch() raises:
    for n in sizes():
        var random = Random(n)
        var sum = random.floats(n, 9)
        var before = some_floats(n)
        for i in range(n):
            before[unsafe_offset=i] = sum[unsafe_offset=i]
        var x = random.floats(n)
        var weight = random.floats(n)
        add_rms_norm(sum, x, weight, n, EPSILON)
        for i in range(n):
            assert_almost_equal(
                sum[unsafe_offset=i],
                before[unsafe_offset=i] + plain_norm(x, weight, n, i),
                rtol=1e-6,
                atol=2e-6,
            )


def test_add_adds() raises:
    for n in sizes():
        var random = Random(n)
        var sum = random.floats(n)
        var x = random.floats(n)
        var first = sum[unsafe_offset=n - 1]
        add(sum, x, n)
        assert_equal(sum[unsafe_offset=n - 1], first + x[unsafe_offset=n - 1])


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
