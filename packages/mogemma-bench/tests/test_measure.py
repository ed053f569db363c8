from __future__ import annotations

import subprocess
import sys

import pytest

from mogemma_bench.measure import Spread, now, rounds


@pytest.mark.parametrize(("samples", "median"), [([3.0], 3.0), ([1.0, 9.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5)])
def test_a_spread_has_the_median_the_ends_and_every_sample_in_order(samples: list[float], median: float) -> None:
    spread = Spread.of(iter(samples))
    assert spread == Spread(median, min(samples), max(samples), tuple(samples))


def test_the_warm_up_is_run_and_told_but_not_counted() -> None:
    told: list[str] = []
    assert rounds(3, lambda number: 10 * number, told.append) == [10, 20, 30]
    assert told == ["warm-up: 0", "round 1 of 3: 10", "round 2 of 3: 20", "round 3 of 3: 30"]


def test_the_clock_never_goes_back() -> None:
    readings = [now() for _ in range(1000)]
    assert readings == sorted(readings)


PEAK = "from mogemma_bench.measure import peak_rss_bytes\nprint(peak_rss_bytes())\n"
TOUCH = """
import mmap
with mmap.mmap(-1, 64 << 20) as memory:
    for page in range(0, len(memory), mmap.PAGESIZE):
        memory[page] = 1
"""


def printed(script: str) -> list[int]:
    """By a process of its own, whose memory nobody else has used."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.splitlines()]


def test_peak_memory_counts_what_was_touched_and_given_back() -> None:
    before, after = printed(PEAK + TOUCH + PEAK)
    assert 60 << 20 < after - before < 72 << 20


def test_peak_memory_is_that_of_this_process_and_not_of_the_one_that_started_it() -> None:
    """Linux would carry ru_maxrss over from a launcher."""
    ballast = b"x" * (256 << 20)
    (peak,) = printed(PEAK)
    assert 1 << 20 < peak < len(ballast)
