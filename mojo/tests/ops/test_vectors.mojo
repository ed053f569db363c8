"""Plain steps on vectors against plain loops, at sizes that are no whole vectors."""

from std.testing import TestSuite, assert_almost_equal, assert_equal

from memory import Random, some_floats
from ops.vectors import add_scaled, copy, dot, multiply, scale


def test_steps_are_those_of_a_plain_loop() raises:
    for n in [1, 15, 16, 17, 100]:
        var random = Random(n)
        var x = random.floats(n)
        var y = random.floats(n)
        var copied = some_floats(n)
        copy(copied, x, n)
        var scaled = some_floats(n)
        copy(scaled, x, n)
        scale(scaled, n, 3)
        var product = some_floats(n)
        multiply(product, x, y, n)
        var sum = some_floats(n)
        copy(sum, y, n)
        add_scaled(sum, x, 0.5, n)
        for i in range(n):
            var a = x[unsafe_offset=i]
            var b = y[unsafe_offset=i]
            assert_equal(copied[unsafe_offset=i], a)
            assert_equal(scaled[unsafe_offset=i], a * 3)
            assert_equal(product[unsafe_offset=i], a * b)
            assert_almost_equal(sum[unsafe_offset=i], b + a / 2, atol=1e-6)


def test_dot_is_the_sum_of_products() raises:
    for n in [1, 15, 16, 17, 640, 1003]:
        var random = Random(n)
        var x = random.floats(n)
        var y = random.floats(n)
        var total = Float64(0)
        for i in range(n):
            total += Float64(x[unsafe_offset=i]) * Float64(y[unsafe_offset=i])
        assert_almost_equal(dot(x, y, n), Float32(total), atol=2e-5)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
