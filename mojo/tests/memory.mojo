"""Memory and numbers for tests. Nothing is freed: a test's process is short."""

from std.memory import Alignment, Layout, alloc

from runtime.views import BytePtr, F32Ptr, floats


def some_bytes(n: Int) -> BytePtr:
    """`n` zeros on a 64-byte boundary."""
    var place = alloc(
        Layout[UInt8, alignment=Alignment.of_bytes[64]()](count=n)
    ).unsafe_leak()
    for i in range(n):
        place[unsafe_offset=i] = 0
    return place


def some_floats(n: Int) -> F32Ptr:
    """`n` zeros on a 64-byte boundary."""
    return floats(some_bytes(4 * n))


struct Random:
    """Numbers that are the same in every run (a linear congruence)."""

    var state: UInt64

    def __init__(out self, seed: Int):
        self.state = UInt64(seed) * 2 + 1

    def bits(mut self) -> UInt32:
        self.state = self.state * 6364136223846793005 + 1442695040888963407
        return UInt32(self.state >> 33)

    def below(mut self, n: Int) -> Int:
        """0 to `n` - 1."""
        return Int(self.bits()) % n

    def float(mut self) -> Float32:
        """-1 to 1."""
        return Float32(Int(self.bits() & 0xFFFFFF)) / 8388608 - 1

    def floats(mut self, n: Int, scale: Float32 = 1) -> F32Ptr:
        """`n` numbers from -scale to scale."""
        var place = some_floats(n)
        for i in range(n):
            place[unsafe_offset=i] = scale * self.float()
        return place
