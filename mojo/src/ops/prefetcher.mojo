"""Weights on their way to the second-level cache."""

from std.sys import PrefetchOptions, prefetch

from runtime.views import CACHE_LINE, BytePtr


@fieldwise_init
struct Bytes(TrivialRegisterPassable):
    """A piece of memory."""

    var at: BytePtr
    var n: Int


struct Prefetcher(TrivialRegisterPassable):
    """Fetches to the second-level cache what a thread will read, ahead of it.

    Hardware looks ahead too, but forgets where it was while a panel is
    multiplied.
    """

    comptime AHEAD = 48 << 10
    """Bytes between reading and fetching: the products of a group take longer
    than memory does, and the second-level cache has room for many such."""

    var here: Bytes
    var next: Bytes

    @always_inline
    def __init__(out self, first: Bytes):
        self.here = first
        self.next = Bytes(first.at, 0)
        self.step(Self.AHEAD)

    @always_inline
    def then(mut self, next: Bytes):
        """Where the thread goes on after its present stretch."""
        if self.here.n > 0:
            self.next = next
        else:
            self.here = next

    @always_inline
    def step(mut self, n_bytes: Int):
        """The thread reads so many bytes: fetch as many."""
        var at = self.here.at
        for byte in range(0, min(n_bytes, self.here.n), CACHE_LINE):
            prefetch[PrefetchOptions().for_read().medium_locality()](
                at.unsafe_offset(byte)
            )
        self.here.at = at.unsafe_offset(n_bytes)
        self.here.n -= n_bytes
        if self.here.n <= 0:
            self.here = self.next
            self.next.n = 0
