"""`measure_roofline`, and the kernels below it: figures that a machine can have, from work that was really done."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import pytest

from mogemma import ConfigError, OutOfMemoryError, Roofline, measure_roofline
from mogemma._native import Kernel, Memory, load_kernel, peak

KINDS = ("INT8", "BFLOAT16", "FLOAT32")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return load_kernel()


def seconds(kind: str, n: int, memory: Memory | None = None) -> float:
    """The least of a few tries."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        peak(kind, n, memory)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_figures_are_those_of_a_machine(threads: int) -> None:
    """From a slow board to more than any processor: what a compiler has left out would lie outside."""
    found = measure_roofline(threads, tries=2, read_bytes=32 << 20)
    assert (found.threads, found.level) == (threads, load_kernel().level)
    assert 5e7 < found.read_bytes_per_s < 5e12
    assert 1e8 < found.float32_macs_per_s < found.int8_macs_per_s < 1e13 * threads
    assert found.bfloat16_macs_per_s is None or found.float32_macs_per_s / 2 < found.bfloat16_macs_per_s


def test_bfloat16_is_absent_where_the_level_has_no_instruction_for_it() -> None:
    assert (measure_roofline(1, tries=1).bfloat16_macs_per_s is None) == (peak("BFLOAT16", 1) == 0)
    assert (peak("BFLOAT16", 1) > 0) == load_kernel().level.endswith("_bf16")


@pytest.mark.parametrize("kind", ["INT8", "FLOAT32"])
def test_more_steps_take_longer(kind: str) -> None:
    """The loop must not be one that is computed without being run."""
    assert seconds(kind, 10_000_000) > 4 * seconds(kind, 1_000_000)
    assert peak(kind, 10_000_000) == 10 * peak(kind, 1_000_000)


def test_reading_more_takes_longer(kernel: Kernel) -> None:
    with closing(Memory(kernel, 64 << 20, "a test")) as memory:
        memory.fill(1)
        assert seconds("READ", 64 << 20, memory) > 4 * seconds("READ", 4 << 20, memory)


@pytest.mark.parametrize("at", [0, 4095, 1 << 14, (1 << 16) - 1])
def test_every_byte_is_read(kernel: Kernel, at: int) -> None:
    """A byte more anywhere changes what is kept."""
    with closing(Memory(kernel, 1 << 16, "a test")) as memory:
        kept = kernel.ffi.new("int32_t[2]")
        kernel.lib.mogemma_peak(kernel.lib.MOGEMMA_PEAK_READ, 1 << 16, memory.pointer, kept)
        kernel.ffi.buffer(memory.pointer)[at] = b"\x01"
        kernel.lib.mogemma_peak(kernel.lib.MOGEMMA_PEAK_READ, 1 << 16, memory.pointer, kept + 1)
        assert kept[0] != kept[1]


@pytest.mark.parametrize(("kind", "n"), [(0, 256), (1, 0), (3, -1), (4, 1), (-1, 1)])
def test_a_measurement_that_does_not_exist_is_refused(kernel: Kernel, kind: int, n: int) -> None:
    """Reading without memory among them."""
    null, kept = kernel.ffi.NULL, kernel.ffi.new("int32_t *")
    assert kernel.lib.mogemma_peak(kind, n, null, kept) == -kernel.lib.MOGEMMA_BAD_ARGUMENT
    assert kernel.lib.mogemma_peak(1, 1, null, null) == -kernel.lib.MOGEMMA_BAD_ARGUMENT


def test_memory_that_is_no_whole_number_of_steps_is_refused(kernel: Kernel) -> None:
    with closing(Memory(kernel, 4096, "a test")) as memory:
        kept = kernel.ffi.new("int32_t *")
        assert kernel.lib.mogemma_peak(0, 255, memory.pointer, kept) == -kernel.lib.MOGEMMA_BAD_ARGUMENT


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_a_number_of_threads_that_cannot_be_is_refused(threads: int) -> None:
    with pytest.raises(ConfigError, match=f"threads={threads} is out of range"):
        measure_roofline(threads)


def test_memory_that_the_system_cannot_give_is_an_error() -> None:
    with pytest.raises(OutOfMemoryError, match="measurement of bandwidth"):
        measure_roofline(1, read_bytes=2**60)


def test_arithmetics_go_by_the_names_that_models_have_for_them() -> None:
    line = Roofline(1, "x", 1.0, 4.0, 2.0, 1.0)
    assert [line.macs_per_s(name) for name in ("int8", "bfloat16", "float32", "int2")] == [4, 2, 1, None]
    assert replace(line, bfloat16_macs_per_s=None).macs_per_s("bfloat16") is None
