"""The most that this machine can do: what the speed of a model is compared with.

Decode reads every weight for each token, so it is bound by memory; a long prompt, or a batch of texts, is bound by
multiply-accumulates (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785).
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._native import Memory, load_kernel, peak
from .cpu import available_cores
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 256 << 20
"""Far more than processors cache; all threads share it."""

TRIES = 8
_STEPS = 6_000_000
"""Some 20 ms of a modern core: long against starting a thread, short against what else a machine does."""

_UNIT = 4096
"""Bytes: threads begin to read at multiples of it."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """What so many threads reach together, without a model.

    Attributes:
        level: CPU level of the kernels: another one has other instructions.
        read_bytes_per_s: From memory, not from a cache.
        int8_macs_per_s: Products of 8-bit integers, summed up in 32 bits; a multiply-accumulate (MAC) is two operations.
        bfloat16_macs_per_s: Summed up in float32; None where the CPU level has no such instruction.
    """

    threads: int
    level: str
    read_bytes_per_s: float
    int8_macs_per_s: float
    bfloat16_macs_per_s: float | None
    float32_macs_per_s: float

    def macs_per_s(self, arithmetic: str) -> float | None:
        """By the name that a model has for its arithmetic: "int8", "bfloat16" or "float32"."""
        return {
            "int8": self.int8_macs_per_s,
            "bfloat16": self.bfloat16_macs_per_s,
            "float32": self.float32_macs_per_s,
        }.get(arithmetic)


def measure_roofline(threads: int | None = None, *, tries: int = TRIES, read_bytes: int = READ_BYTES) -> Roofline:
    """Measure for about a second; the best try counts, because other programs can only slow one down.

    Args:
        threads: Default: the cores that this process may use.
        tries: Of each figure.
        read_bytes: Memory to take for the time of the measurement.

    Raises:
        ConfigError: There is no such number of threads.
        OutOfMemoryError: There is no memory to read.
    """
    n_threads = available_cores() if threads is None else threads
    if not 1 <= n_threads <= 256:
        raise ConfigError(f"threads={n_threads} is out of range: 1 to 256, at best the number of cores.")

    def macs_per_s(kind: str) -> float:
        return _best(lambda _: peak(kind, _STEPS), n_threads, tries)

    return Roofline(
        threads=n_threads,
        level=load_kernel().level,
        read_bytes_per_s=_read_bytes_per_s(n_threads, tries, read_bytes),
        int8_macs_per_s=macs_per_s("INT8"),
        bfloat16_macs_per_s=macs_per_s("BFLOAT16") or None,
        float32_macs_per_s=macs_per_s("FLOAT32"),
    )


def _read_bytes_per_s(n_threads: int, tries: int, n_bytes: int) -> float:
    share = max(n_bytes // n_threads // _UNIT, 1) * _UNIT
    with closing(Memory(load_kernel(), share * n_threads, "the measurement of bandwidth", huge_pages=True)) as memory:
        memory.fill(1)  # pages never written to would all be the same page of zeros
        return _best(lambda thread: peak("READ", share, memory, thread * share), n_threads, tries)


def _best(work: Callable[[int], int], n_threads: int, tries: int) -> float:
    """The most that all threads did of something in a second, of several tries."""
    return max(_rate(work, n_threads) for _ in range(tries))


def _rate(work: Callable[[int], int], n_threads: int) -> float:
    """From the moment that all threads are ready until the last is done."""
    ready = threading.Barrier(n_threads + 1)
    done = [0] * n_threads

    def run(thread: int) -> None:
        ready.wait()
        done[thread] = work(thread)

    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(n_threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - start)
