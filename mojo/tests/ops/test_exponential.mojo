"""The fast exponential against the definition in float64."""

from std.math import exp
from std.testing import TestSuite, assert_almost_equal, assert_equal

from ops.exponential import fast_exp


def test_it_is_off_by_at_most_two_units_of_the_last_place() raises:
    var x = Float32(-87)
    while x < 88:
        assert_almost_equal(
            Float64(fast_exp[1](x)) / exp(Float64(x)), 1, atol=2.4e-7
        )
        x += 0.0173


def test_nothing_is_exact() raises:
    assert_equal(fast_exp[1](0), 1)


def test_beyond_its_bounds_it_stays_finite() raises:
    assert_equal(fast_exp[1](-1e30), fast_exp[1](-87))
    assert_equal(fast_exp[1](1e30), fast_exp[1](88))


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
