from __future__ import annotations

import pytest

from mogemma_bench.bandwidth import read_bytes_per_s


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_measured_bandwidth_is_one_that_a_machine_can_have(threads: int) -> None:
    """From a slow board to more than any processor reads: a sweep that is skipped or cut short would lie outside."""
    assert 5e7 < read_bytes_per_s(threads, n_bytes=32 << 20, tries=2) < 5e12


def test_reading_twice_as_much_takes_longer() -> None:
    """Every byte is looked at: the figure must come from the amount of memory, not from the calls."""
    seconds = {}
    for n_bytes in (8 << 20, 128 << 20):
        seconds[n_bytes] = n_bytes / read_bytes_per_s(1, n_bytes=n_bytes, tries=3)
    assert seconds[128 << 20] > 2 * seconds[8 << 20]
