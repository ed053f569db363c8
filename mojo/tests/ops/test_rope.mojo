"""Rotations against the sine and cosine of the C library in float64."""

from std.math import cos, sin
from std.testing import TestSuite, assert_almost_equal, assert_equal

from memory import Random, some_floats
from ops.rope import rope, rope_angles


def test_angles_are_exact_to_float32_at_every_position_of_a_long_context() raises:
    var frequencies = some_floats(16)
    for j in range(16):
        frequencies[unsafe_offset=j] = Float32(10_000.0 ** (-Float64(j) / 16))
    var cosines = some_floats(16)
    var sines = some_floats(16)
    for position in [0, 1, 2, 3, 511, 1023, 8191, 32767, 131071, 1048575]:
        rope_angles(position, frequencies, 16, cosines, sines)
        for j in range(16):
            # The reference implementation rounds the angle to float32 as well.
            var angle = Float32(position) * frequencies[unsafe_offset=j]
            assert_almost_equal(
                cosines[unsafe_offset=j],
                Float32(cos(Float64(angle))),
                atol=1e-7,
            )
            assert_almost_equal(
                sines[unsafe_offset=j], Float32(sin(Float64(angle))), atol=1e-7
            )


def test_every_quarter_of_a_turn_has_its_signs() raises:
    var frequencies = some_floats(8)
    for j in range(8):
        frequencies[unsafe_offset=j] = Float32(j) * 0.7853982
    var cosines = some_floats(8)
    var sines = some_floats(8)
    rope_angles(1, frequencies, 8, cosines, sines)
    for j in range(8):
        var angle = Float64(frequencies[unsafe_offset=j])
        assert_almost_equal(
            cosines[unsafe_offset=j], Float32(cos(angle)), atol=1e-7
        )
        assert_almost_equal(
            sines[unsafe_offset=j], Float32(sin(angle)), atol=1e-7
        )


def test_pairs_are_half_a_head_apart_and_turn_by_their_angle() raises:
    for n_pairs in [8, 16, 40, 128]:
        var random = Random(n_pairs)
        var head = random.floats(2 * n_pairs)
        var before = some_floats(2 * n_pairs)
        for i in range(2 * n_pairs):
            before[unsafe_offset=i] = head[unsafe_offset=i]
        var angles = random.floats(n_pairs, 3)
        var cosines = some_floats(n_pairs)
        var sines = some_floats(n_pairs)
        for j in range(n_pairs):
            cosines[unsafe_offset=j] = cos(angles[unsafe_offset=j])
            sines[unsafe_offset=j] = sin(angles[unsafe_offset=j])
        rope(head, cosines, sines, n_pairs)
        for j in range(n_pairs):
            var a = before[unsafe_offset=j]
            var b = before[unsafe_offset=j + n_pairs]
            var c = cosines[unsafe_offset=j]
            var s = sines[unsafe_offset=j]
            assert_almost_equal(head[unsafe_offset=j], a * c - b * s, atol=2e-7)
            assert_almost_equal(
                head[unsafe_offset=j + n_pairs], b * c + a * s, atol=2e-7
            )


def test_position_0_changes_nothing() raises:
    var random = Random(1)
    var frequencies = random.floats(8, 100)
    var cosines = some_floats(8)
    var sines = some_floats(8)
    rope_angles(0, frequencies, 8, cosines, sines)
    var head = random.floats(16)
    var first = head[unsafe_offset=0]
    rope(head, cosines, sines, 8)
    assert_equal(head[unsafe_offset=0], first)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
