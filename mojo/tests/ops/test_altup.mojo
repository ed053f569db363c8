"""Streams predicted and corrected, against plain loops in float64."""

from std.math import sqrt
from std.testing import TestSuite, assert_almost_equal, assert_equal

from memory import Random, some_floats
from ops.altup import (
    Coefficients,
    Streams,
    bring_to_size,
    correct,
    modality,
    predict,
)
from ops.vectors import copy

comptime EPSILON = Float32(1e-6)


def test_a_prediction_mixes_all_streams_into_each() raises:
    for n in [2, 3, 4]:
        for dim in [1, 16, 37]:
            var random = Random(n + dim)
            var memory = random.floats(n * dim)
            var before = some_floats(n * dim)
            copy(before, memory, n * dim)
            var weights = random.floats(n * n * n)
            var said = Coefficients(0)
            for j in range(n):
                said[j] = random.float()
            predict(Streams(memory, n, dim, dim), weights, said)
            for o in range(n):
                for d in range(dim):
                    var total = Float64(before[unsafe_offset=o * dim + d])
                    for i in range(n):
                        var share = Float64(0)
                        for j in range(n):
                            var at = (o * n + i) * n + j
                            var weight = Float64(weights[unsafe_offset=at])
                            share += weight * Float64(said[j])
                        total += share * Float64(
                            before[unsafe_offset=i * dim + d]
                        )
                    assert_almost_equal(
                        memory[unsafe_offset=o * dim + d],
                        Float32(total),
                        atol=1e-5,
                    )


def test_a_correction_moves_each_by_its_share_of_the_error() raises:
    for n in [2, 4]:
        for dim in [15, 48]:
            var random = Random(n * dim)
            var memory = random.floats(n * dim)
            var before = some_floats(n * dim)
            copy(before, memory, n * dim)
            var x = random.floats(dim)
            var weights = random.floats(n * n)
            var said = Coefficients(0)
            for j in range(n):
                said[j] = random.float()
            correct(Streams(memory, n, dim, dim), weights, x, said)
            for k in range(n):
                var share = Float64(1)
                for j in range(n):
                    var weight = Float64(weights[unsafe_offset=k * n + j])
                    share += weight * Float64(said[j])
                for d in range(dim):
                    var wrong = Float64(x[unsafe_offset=d]) - Float64(
                        before[unsafe_offset=d]
                    )
                    var old = Float64(before[unsafe_offset=k * dim + d])
                    assert_almost_equal(
                        memory[unsafe_offset=k * dim + d],
                        Float32(old + share * wrong),
                        atol=1e-5,
                    )


def test_what_a_router_says_does_not_depend_on_size() raises:
    var random = Random(3)
    var router = random.floats(3 * 50)
    var x = random.floats(50)
    var said = modality(router, x, 3, 50, EPSILON)
    for i in range(50):
        x[unsafe_offset=i] *= 1000
    var again = modality(router, x, 3, 50, EPSILON)
    for i in range(3):
        assert_almost_equal(again[i], said[i], atol=1e-5)
    assert_equal(said[3], 0)


def test_a_stream_is_brought_to_the_size_of_another() raises:
    for n in [7, 16, 33]:
        var random = Random(n)
        var x = random.floats(n)
        var like = random.floats(n, 9)
        bring_to_size(x, like, n)
        var ours = Float64(0)
        var theirs = Float64(0)
        for i in range(n):
            ours += Float64(x[unsafe_offset=i]) ** 2
            theirs += Float64(like[unsafe_offset=i]) ** 2
        assert_almost_equal(sqrt(ours), sqrt(theirs), rtol=1e-5)


def test_next_to_nothing_is_not_blown_up() raises:
    """The mean square counts as 1e-5 at least."""
    var x = some_floats(16)
    var like = some_floats(16)
    for i in range(16):
        x[unsafe_offset=i] = 1e-20
        like[unsafe_offset=i] = 1
    bring_to_size(x, like, 16)
    assert_almost_equal(x[unsafe_offset=0] * 1e17, 0.316228, rtol=1e-4)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
