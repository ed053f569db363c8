"""The fast way through an array of strings finds exactly what a plain loop finds."""

from __future__ import annotations

import mmap
import struct
import time
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mogemma.checkpoint.strings import index_strings


def mapped(data: bytes) -> mmap.mmap:
    mapping = mmap.mmap(-1, max(len(data), 1))
    mapping[: len(data)] = data
    return mapping


def encode(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(string)) + string for string in strings)


def starts_by_plain_loop(strings: list[bytes]) -> list[int]:
    return [0, *accumulate(8 + len(string) for string in strings)]


RUNS = st.tuples(
    st.binary(max_size=6) | st.sampled_from([b"", b"a\0b", bytes(9), b"x" * 255, b"x" * 256, b"x" * 70_000]),
    st.integers(1, 3000),
)


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(RUNS, max_size=5), offset=st.integers(0, 9))
def test_starts_are_those_of_a_plain_loop(runs: list[tuple[bytes, int]], offset: int) -> None:
    """Runs of short strings go the fast way; empty and long ones, and ones with zeros in them, break it."""
    strings = [string for string, count in runs for _ in range(min(count, 1_000_000 // (len(string) + 8)))]
    data = bytes(offset) + encode(strings)
    starts = index_strings(mapped(data), offset, len(strings), len(data))
    assert starts.tolist() == starts_by_plain_loop(strings)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), count=st.integers(0, 30))
def test_noise_never_leads_out_of_bounds(data: bytes, count: int) -> None:
    starts = index_strings(mapped(data), 0, count, len(data))
    assert len(starts) <= count + 1
    assert all(starts <= len(data))


@pytest.mark.parametrize("missing", [1, 4, 8, 9, 20_000])
def test_strings_that_run_past_the_end_are_not_complete(missing: int) -> None:
    data = encode([b"token"] * 3000)
    assert len(index_strings(mapped(data), 0, 3000, len(data) - missing)) < 3001


@pytest.mark.parametrize("length", [2**63 - 1, 2**64 - 1, 2**32])
@pytest.mark.parametrize("before", [0, 5000])
def test_an_absurd_length_ends_the_search(length: int, before: int) -> None:
    data = encode([b"token"] * before) + struct.pack("<Q", length) + bytes(100)
    assert len(index_strings(mapped(data), 0, before + 2, len(data))) == before + 1


@pytest.mark.parametrize("string", [b"", b"\0ab", b"x" * 300])
def test_two_million_strings_made_to_miss_the_fast_way_take_less_than_a_second(string: bytes) -> None:
    count = min(1 << 21, (64 << 20) // (8 + len(string)))
    mapping = mapped(encode([string]) * count)
    start = time.process_time()
    starts = index_strings(mapping, 0, count, len(mapping))
    assert time.process_time() - start < 1
    assert len(starts) == count + 1
