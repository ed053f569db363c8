"""The library file and the functions that need no model: what it exports, what it needs, top_k and dequantize."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import elf
import numpy as np
import pytest
from blocks import random_matrix

import mogemma
from mogemma._native import (
    LEVEL_VARIABLE,
    STRUCTS,
    Kernel,
    Memory,
    dequantize,
    kernel_folder,
    load_kernel,
    runnable_levels,
    top_k,
)
from mogemma.checkpoint import TensorType
from mogemma.errors import ConfigError, KernelError, ModelFormatError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks import Floats

is_linux = sys.platform.startswith("linux")
only_elf = pytest.mark.skipif(not is_linux, reason="reads ELF, the format of Linux's libraries")


@pytest.fixture
def kernel(level: str) -> Kernel:
    return load_kernel(level)


@pytest.fixture
def fresh_choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The choice of a kernel is remembered; this forgets it, before and after."""
    load_kernel.cache_clear()
    yield monkeypatch
    load_kernel.cache_clear()


def declared_functions() -> set[str]:
    header = (kernel_folder() / "mogemma.h").read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return set(re.findall(r"\b(mogemma_\w+)\(", code))


def test_the_library_has_every_function_of_the_header(kernel: Kernel) -> None:
    assert len(declared_functions()) >= 10
    for name in declared_functions():
        assert getattr(kernel.lib, name)


@only_elf
def test_the_library_exports_what_the_header_declares_and_nothing_else(kernel: Kernel) -> None:
    assert elf.read(kernel.path).exported == declared_functions()


@only_elf
def test_the_library_needs_libc_and_libm_and_nothing_else(kernel: Kernel) -> None:
    """No Mojo runtime, no folder of the machine that built it."""
    library = elf.read(kernel.path)
    assert library.needed <= {"libc.so.6", "libm.so.6"}
    assert library.search_paths == set()
    assert not [name for name in library.undefined | library.exported if "KGEN" in name]
    assert b"KGEN" not in kernel.path.read_bytes()


@only_elf
def test_the_library_calls_only_what_every_libc_has(kernel: Kernel) -> None:
    """Memory, threads and arithmetic; no files, no network, no environment, no allocation."""
    harmless = {"memcpy", "memmove", "memset", "memcmp", "pthread_create", "pthread_join", "sched_yield", "syscall"}
    assert elf.read(kernel.path).undefined <= harmless


def test_the_header_in_the_package_is_the_one_beside_the_kernels() -> None:
    source = Path(__file__).parents[3] / "mojo" / "include" / "mogemma.h"
    assert (kernel_folder() / "mogemma.h").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("index", range(len(STRUCTS)), ids=STRUCTS)
def test_both_sides_give_a_struct_the_same_size(kernel: Kernel, index: int) -> None:
    assert kernel.lib.mogemma_struct_bytes(index) == kernel.ffi.sizeof(f"mogemma_{STRUCTS[index]}")


def test_a_struct_that_does_not_exist_has_no_size(kernel: Kernel) -> None:
    assert [kernel.lib.mogemma_struct_bytes(index) for index in (-1, len(STRUCTS), 2**31 - 1)] == [0, 0, 0]


def test_the_format_numbers_of_the_header_are_those_of_the_checkpoints(kernel: Kernel) -> None:
    assert {kind.name: getattr(kernel.lib, f"MOGEMMA_{kind.name}") for kind in TensorType} == {
        kind.name: int(kind) for kind in TensorType
    }


def test_every_function_refuses_null_pointers(kernel: Kernel) -> None:
    ffi, lib = kernel.ffi, kernel.lib
    null, bad = ffi.NULL, lib.MOGEMMA_BAD_ARGUMENT
    matrix, numbers, ids = ffi.new("mogemma_matrix *"), ffi.new("float[8]"), ffi.new("int32_t[8]")
    assert lib.mogemma_engine_bytes(null, null, null) == -bad
    assert lib.mogemma_cache_bytes(null, null) == -bad
    assert lib.mogemma_engine_open(null, null, null) == bad
    assert lib.mogemma_engine_close(null) == bad
    assert lib.mogemma_forward(null, null) == bad
    assert lib.mogemma_matmul(null, matrix, numbers, 1, numbers) == bad
    assert lib.mogemma_top_k(null, 8, 1, ids, numbers) == bad
    assert lib.mogemma_top_k(numbers, 8, 1, null, numbers) == bad
    assert lib.mogemma_top_k(numbers, 8, 1, ids, null) == bad
    assert lib.mogemma_dequantize(null, 0, numbers) == bad
    assert lib.mogemma_dequantize(matrix, 0, numbers) == bad  # its data is NULL


def test_kernels_read_and_write_no_byte_beyond_their_memory(level: str) -> None:
    script = Path(__file__).with_name("guarded.py")
    source = str(Path(mogemma.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script), level], capture_output=True, text=True, check=False, env={"PYTHONPATH": source}
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


# --- choosing a library


def test_a_level_that_this_processor_cannot_run_is_refused_by_name(fresh_choice: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match=r"No kernel 'z80' for this processor; it can run: .*" + LEVEL_VARIABLE):
        load_kernel("z80")


def test_the_environment_chooses_the_level(fresh_choice: pytest.MonkeyPatch, level: str) -> None:
    fresh_choice.setenv(LEVEL_VARIABLE, level)
    assert load_kernel().level == level


def test_without_a_wish_the_most_capable_level_is_taken(fresh_choice: pytest.MonkeyPatch) -> None:
    fresh_choice.delenv(LEVEL_VARIABLE, raising=False)
    assert load_kernel().level == list(runnable_levels())[-1]


def test_a_processor_is_offered_only_what_it_can_run(tmp_path: Path) -> None:
    (tmp_path / "levels.json").write_text(
        '{"levels": [{"name": "plain", "library": "a.so", "needs": []},'
        ' {"name": "later", "library": "b.so", "needs": ["an instruction of the future"]}]}',
        encoding="utf-8",
    )
    assert runnable_levels(tmp_path) == {"plain": tmp_path / "a.so"}


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_missing_kernels_are_one_sentence_that_says_how_to_get_them(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "levels.json").write_text(content, encoding="utf-8")
    with pytest.raises(KernelError, match=r"The kernels are missing from .*make install"):
        runnable_levels(tmp_path)


def test_memory_that_the_system_cannot_give_is_an_error_with_its_size(kernel: Kernel) -> None:
    with pytest.raises(OutOfMemoryError, match=r"no 1,099,511,627,776 MB for a test"):
        Memory(kernel, 2**60, "a test")


# --- dequantize


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 99},
        {"format": -1},
        {"format": int(TensorType.Q4_K)},  # 96 columns are no whole block of 256
        {"n_columns": 80},  # no whole block of 32
        {"n_columns": 0},
        {"n_columns": -32},
        {"data": None},
    ],
)
def test_a_matrix_that_cannot_be_is_refused(level: str, changes: dict[str, Any]) -> None:
    matrix = {**random_matrix(TensorType.Q8_0, 2, 96), **changes}
    kernel = load_kernel(level)
    native: Any = kernel.ffi.new("mogemma_matrix *", {x: matrix[x] for x in ("n_rows", "n_columns", "format")})
    if matrix["data"] is not None:
        native.data = kernel.ffi.from_buffer(matrix["data"])
    assert kernel.lib.mogemma_dequantize(native, 0, kernel.ffi.new("float[96]")) > 0


@pytest.mark.parametrize("row", [-1, 2, 2**40])
def test_a_row_outside_the_matrix_is_refused(level: str, row: int) -> None:
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        dequantize(random_matrix(TensorType.Q8_0, 2, 96), row, level=level)


# --- top_k


def best(kernel: Kernel, logits: Floats, k: int) -> tuple[int, list[int], list[float]]:
    """Status, ids and values at one level."""
    ids, values = np.empty(k, np.int32), np.empty(k, np.float32)
    from_buffer = kernel.ffi.from_buffer
    status = kernel.lib.mogemma_top_k(
        from_buffer("float[]", logits), len(logits), k, from_buffer("int32_t[]", ids), from_buffer("float[]", values)
    )
    return status, ids.tolist(), values.tolist()


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 100, 1000, 5003])
def test_top_k_is_a_stable_sort_cut_after_k(kernel: Kernel, n: int) -> None:
    """Few different numbers, so that there are ties: those go by the lower id."""
    rng = np.random.default_rng(n)
    for logits in (rng.standard_normal(n, np.float32), rng.integers(-3, 3, n).astype(np.float32)):
        order = np.argsort(-logits, kind="stable")
        for k in {1, min(2, n), min(16, n), min(64, n), n}:
            assert best(kernel, logits, k) == (0, order[:k].tolist(), logits[order[:k]].tolist())


@pytest.mark.parametrize("direction", [1, -1])
def test_top_k_of_sorted_logits(kernel: Kernel, direction: int) -> None:
    """Ascending ones are the most work, descending ones the least."""
    logits = np.arange(262144, dtype=np.float32)[::direction].copy()
    order = np.argsort(-logits, kind="stable")[:64]
    assert best(kernel, logits, 64) == (0, order.tolist(), logits[order].tolist())


def test_top_k_counts_minus_infinity_as_the_least(kernel: Kernel) -> None:
    """What a mask has ruled out is no damage."""
    logits = np.full(40, -np.inf, np.float32)
    logits[[7, 23]] = [1, 2]
    assert best(kernel, logits, 3) == (0, [23, 7, 0], [2, 1, -np.inf])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 3, 15, 16, 39, 42])
def test_top_k_refuses_logits_that_are_not_finite_wherever_they_are(kernel: Kernel, bad: float, at: int) -> None:
    logits = np.zeros(43, np.float32)
    logits[at] = bad
    assert best(kernel, logits, 5)[0] == kernel.lib.MOGEMMA_NOT_FINITE


def test_damaged_weights_are_named_as_the_cause() -> None:
    with pytest.raises(ModelFormatError, match="damaged"):
        top_k(np.array([1, np.nan, 2], np.float32), 1)


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_all_logits_or_none_cannot_be_the_best(k: int) -> None:
    with pytest.raises(ConfigError, match=f"top_k must be 1 to 3, not {k}"):
        top_k(np.zeros(3, np.float32), k)
