"""How a figure comes about: a round to warm up, rounds that count, and all of them kept."""

from __future__ import annotations

import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Sample = TypeVar("Sample")

now = time.perf_counter
"""Seconds on a clock that only goes forward, to the nanosecond; where it starts means nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Every sample in the order taken, and what lies in the middle and at the ends."""

    median: float
    min: float
    max: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Iterable[float]) -> Spread:
        """At least one sample."""
        values = tuple(samples)
        return cls(statistics.median(values), min(values), max(values), values)

    def __truediv__(self, other: Spread) -> Spread:
        """Sample by sample: what two did in the same round."""
        return Spread.of(ours / theirs for ours, theirs in zip(self.samples, other.samples, strict=True))


def rounds(n_rounds: int, work: Callable[[int], Sample], tell: Callable[[str], None]) -> list[Sample]:
    """Do the work once without counting it, then `n_rounds` times.

    The first round maps the model's pages, starts threads and wakes the processor; users pay that once, not each time.

    Args:
        n_rounds: At least 1.
        work: Called with the number of the round, 0 for the warm-up, so that it can vary its input; its result, written
            as text, is what is told.
        tell: Progress, a line at a time.
    """
    tell(f"warm-up: {work(0)}")
    samples = []
    for number in range(1, n_rounds + 1):
        samples.append(work(number))
        tell(f"round {number} of {n_rounds}: {samples[-1]}")
    return samples


def peak_rss_bytes() -> int:
    """The most memory that this process had resident at one time, mapped pages of the model file included."""
    # Linux carries ru_maxrss over from the program that started this one (`uv run`, say); VmHWM starts anew.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others KiB
