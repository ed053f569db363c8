"""Activations as int8: exact integers, true sums, scales that give them back."""

from std.testing import TestSuite, assert_almost_equal, assert_equal

from memory import Random, some_bytes, some_floats
from ops.quantize import (
    BLOCK,
    X_BLOCK_BYTES,
    X_VALUES,
    quantize_row,
    quantized_bytes,
)
from runtime.views import BytePtr, F32Ptr, floats


def value(block: BytePtr, i: Int) -> Int:
    return Int(block.unsafe_bitcast[Int8]()[unsafe_offset=X_VALUES + i])


def quantized(x: F32Ptr, n: Int) -> BytePtr:
    var blocks = some_bytes(quantized_bytes(n))
    quantize_row(x, n, blocks)
    return blocks


def test_a_number_is_off_by_at_most_half_a_step_of_its_block() raises:
    for n_blocks in [1, 2, 20, 36]:
        var random = Random(n_blocks)
        var x = random.floats(BLOCK * n_blocks, 5)
        x[unsafe_offset=3] = 300
        var blocks = quantized(x, BLOCK * n_blocks)
        for i in range(BLOCK * n_blocks):
            var block = blocks.unsafe_offset(i // BLOCK * X_BLOCK_BYTES)
            var scale = floats(block)[]
            assert_almost_equal(
                scale * Float32(value(block, i % BLOCK)),
                x[unsafe_offset=i],
                rtol=1e-6,
                atol=Float64(scale) * 0.500001,
            )


def test_the_greatest_magnitude_becomes_127() raises:
    var x = some_floats(BLOCK)
    x[unsafe_offset=9] = -3.25
    x[unsafe_offset=10] = 3
    var block = quantized(x, BLOCK)
    assert_equal(value(block, 9), -127)
    assert_equal(value(block, 10), 117)
    assert_almost_equal(floats(block)[], 3.25 / 127, rtol=1e-6)


def test_halves_go_to_the_even_neighbour() raises:
    var x = some_floats(BLOCK)
    x[unsafe_offset=0] = 127
    var halves: List[Float32] = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5]
    var evens: List[Int] = [0, 2, 2, 0, -2, -2]
    for i in range(6):
        x[unsafe_offset=1 + i] = halves[i]
    var block = quantized(x, BLOCK)
    for i in range(6):
        assert_equal(value(block, 1 + i), evens[i])


def test_sums_are_of_the_integers_and_scaled_by_the_same_scale() raises:
    var random = Random(5)
    var block = quantized(random.floats(BLOCK), BLOCK)
    var sums = block.unsafe_bitcast[Int16]()
    for half in range(2):
        var total = 0
        for i in range(16 * half, 16 * half + 16):
            total += value(block, i)
        assert_equal(Int(sums[unsafe_offset=6 + half]), total)
        assert_equal(
            floats(block)[unsafe_offset=1 + half],
            floats(block)[] * Float32(total),
        )


def test_blocks_of_next_to_nothing_are_zeros_and_finite() raises:
    for exponent in [0, 31, 38, 44]:
        var x = some_floats(BLOCK)
        if exponent > 0:
            x[unsafe_offset=1] = Float32(10.0 ** (-Float64(exponent)))
        var block = quantized(x, BLOCK)
        for i in range(BLOCK):
            assert_equal(value(block, i), 0)
        assert_almost_equal(floats(block)[], 0, atol=1e-32)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
