"""The gate of the MLP, and soft caps, against plain loops in float64."""

from std.math import exp, sqrt
from std.testing import TestSuite, assert_almost_equal, assert_true

from memory import Random, some_floats
from ops.geglu import cut_gate, geglu
from ops.softcap import softcap
from runtime.views import F32Ptr


def plain_tanh(x: Float64) -> Float64:
    if x > 20:
        return 1
    if x < -20:
        return -1
    var e = exp(2 * x)
    return (e - 1) / (e + 1)


def plain_gelu(x: Float64) -> Float64:
    return (
        x
        / 2
        * (
            1
            + plain_tanh(sqrt(2 / 3.141592653589793) * (x + 0.044715 * x**3))
        )
    )


def test_geglu_is_gelu_of_the_gate_times_up() raises:
    for n in [1, 15, 16, 17, 48, 56, 2049]:
        var random = Random(n)
        var gate = random.floats(n, 6)
        var up = random.floats(n, 3)
        var before = some_floats(n)
        for i in range(n):
            before[unsafe_offset=i] = gate[unsafe_offset=i]
        geglu(gate, up, n)
        for i in range(n):
            var exact = plain_gelu(Float64(before[unsafe_offset=i])) * Float64(
                up[unsafe_offset=i]
            )
            assert_almost_equal(
                gate[unsafe_offset=i], Float32(exact), rtol=1e-6, atol=4e-6
            )


def test_geglu_of_great_gates_is_the_gate_itself_or_nothing() raises:
    var gate = some_floats(4)
    var up = some_floats(4)
    var great: List[Float32] = [1e4, -1e4, 60, -60]
    for i in range(4):
        gate[unsafe_offset=i] = great[i]
        up[unsafe_offset=i] = 2
    geglu(gate, up, 4)
    for i in range(4):
        assert_almost_equal(gate[unsafe_offset=i], 2 * max(great[i], 0))


def test_a_cut_gate_keeps_what_is_far_above_the_mean() raises:
    for n in [1, 15, 16, 17, 2049]:
        var random = Random(n)
        var gate = random.floats(n, 6)
        var before = some_floats(n)
        var mean = Float64(0)
        for i in range(n):
            before[unsafe_offset=i] = gate[unsafe_offset=i]
            mean += Float64(gate[unsafe_offset=i]) / Float64(n)
        var spread = Float64(0)
        for i in range(n):
            spread += (Float64(gate[unsafe_offset=i]) - mean) ** 2 / Float64(n)
        cut_gate(gate, n, 0.75)
        for i in range(n):
            var exact = (
                Float64(before[unsafe_offset=i]) - mean - 0.75 * sqrt(spread)
            )
            assert_almost_equal(
                gate[unsafe_offset=i], Float32(max(exact, 0)), atol=1e-5
            )


def test_softcap_is_cap_times_tanh() raises:
    for n in [1, 15, 16, 17, 512, 1003]:
        var random = Random(n)
        var x = random.floats(n, 100)
        var before = some_floats(n)
        for i in range(n):
            before[unsafe_offset=i] = x[unsafe_offset=i]
        softcap(x, n, 30)
        for i in range(n):
            var exact = 30 * plain_tanh(Float64(before[unsafe_offset=i]) / 30)
            assert_almost_equal(
                x[unsafe_offset=i], Float32(exact), rtol=1e-6, atol=2e-5
            )
            assert_true(abs(x[unsafe_offset=i]) <= 30)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
