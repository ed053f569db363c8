"""How fast this machine reads memory: the ceiling of decode, which reads all weights for each token."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable

from .measure import now

READ_BYTES = 256 << 20
"""Far more than processors cache; all threads share it."""

_SWEEPS = 2
_TRIES = 10


def read_bytes_per_s(threads: int, n_bytes: int = READ_BYTES, tries: int = _TRIES) -> float:
    """Bytes a second that so many threads read from memory: the best of several tries.

    The C library's memchr looks for a byte that is not there: vector loads, one comparison, and ctypes lets go of the
    interpreter meanwhile. The best try counts, because other programs can only slow it down. Where the C library is a
    plain one (musl) memchr itself may be the limit, and the figure less than the machine has.
    """
    with mmap.mmap(-1, n_bytes) as memory:
        start = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(start)
        ctypes.memset(address, 1, n_bytes)  # pages never written to would all be the same page of zeros
        sweep = _sweep(address, n_bytes // threads)
        seconds = min(_timed(sweep, threads) for _ in range(tries))
        del start  # or the memory could not be unmapped
    return _SWEEPS * (n_bytes // threads) * threads / seconds


def _sweep(address: int, share: int) -> Callable[[int], None]:
    """What one thread does: look through its share of the memory, several times over."""
    memchr = ctypes.CDLL(None).memchr
    memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    memchr.restype = ctypes.c_void_p

    def sweep(index: int) -> None:
        for _ in range(_SWEEPS):
            memchr(address + index * share, 0, share)

    return sweep


def _timed(sweep: Callable[[int], None], threads: int) -> float:
    """Seconds from the moment that all threads are ready until the last is done."""
    ready = threading.Barrier(threads + 1)

    def run(index: int) -> None:
        ready.wait()
        sweep(index)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = now()
    for worker in workers:
        worker.join()
    return now() - start
