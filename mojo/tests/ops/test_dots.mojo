"""The dot-product step of this target against plain integers, at the extremes."""

from std.memory import bitcast
from std.testing import TestSuite, assert_equal

from formats.rows import Bytes, LANES
from formats.tile import WIDE_ZERO
from memory import Random
from ops.dots import Sums, Values, dot4
from runtime.views import U8


def check[is_wide: Bool](weights: List[Int], xs: List[Int]) raises:
    """Weights are signed where the values are wide, else 0 to 127."""
    var w = Bytes(0)
    var x = Values(0)
    for i in range(4 * LANES):
        # As a tile has them: with the target's zero added, in a byte.
        var stored = weights[i] + (WIDE_ZERO if is_wide else 0)
        w[i] = UInt8(stored & 0xFF)
        x[i] = Int8(xs[i])
    var got = dot4[is_wide](Sums(1000), w, x)
    for lane in range(LANES):
        var expected = 1000
        for i in range(4 * lane, 4 * lane + 4):
            expected += weights[i] * xs[i]
            if is_wide:
                expected += WIDE_ZERO * xs[i]
        assert_equal(Int(got[lane]), expected)


def test_random_values() raises:
    var random = Random(3)
    for _ in range(50):
        var wide: List[Int] = []
        var narrow: List[Int] = []
        var xs: List[Int] = []
        for _ in range(4 * LANES):
            wide.append(random.below(256) - 128)
            narrow.append(random.below(128))
            xs.append(random.below(255) - 127)
        check[True](wide, xs)
        check[False](narrow, xs)


def test_the_extremes_do_not_saturate() raises:
    """Pairs of products pass 16 bits first where all are as great as can be."""
    for x in [-127, 127]:
        var xs = List[Int](length=4 * LANES, fill=x)
        for w in [-128, -127, 127]:
            check[True](List[Int](length=4 * LANES, fill=w), xs)
        check[False](List[Int](length=4 * LANES, fill=127), xs)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
