"""What the machine has to give: cores, memory and instructions, in a container as outside of one."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import GEMMA, QUANT_ZOO

from mogemma import ConfigError, KernelError, SyncGemmaModel, cpu
from mogemma._native import kernel_folder, load_kernel, runnable_levels
from mogemma.cpu import available_cores, available_memory, instruction_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GB = 2**30
V2, V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/cpu"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """A machine of 8 cores with these files and no others."""

    def build(files: Mapping[str, str]) -> None:
        monkeypatch.setattr(cpu, "_text", lambda path: files.get(str(path), ""))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)

    return build


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"/proc/self/cgroup": "0::/\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "400000 100000\n"}, 4),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "250000 100000\n"}, 2),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "50000 100000\n"}, 1),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "1000 100000\n"}, 1),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "6400000 100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "300000 100000"}, 3),
        ({"/proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "max 100000", f"{V2}/a/cpu.max": "200000 100000"}, 2),
        ({"/proc/self/cgroup": "0::/../../x\n", f"{V2}/cpu.max": "200000 100000"}, 2),
        ({"/proc/self/cgroup": "4:cpu,cpuacct:/d\n", f"{V1}/d/cpu.cfs_quota_us": "-1"}, 8),
        (
            {
                "/proc/self/cgroup": "9:memory:/d\n4:cpu,cpuacct:/d\n0::/\n",
                f"{V1}/d/cpu.cfs_quota_us": "350000\n",
                f"{V1}/d/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "/proc/self/cgroup": "1:cpu:/a/b\n",
                f"{V1}/a/cpu.cfs_quota_us": "50000",
                f"{V1}/a/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        ({"/proc/self/cgroup": "4:cpu:/\n", f"{V1}/cpu.cfs_quota_us": "100000", f"{V1}/cpu.cfs_period_us": "0"}, 8),
        ({"/proc/self/cgroup": "garbage\n\n::::\n0::/\n", f"{V2}/cpu.max": ""}, 8),
        ({"/proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "many few"}, 8),
    ],
    ids=str,
)
def test_cores_are_those_of_the_control_groups_quota_rounded_down(
    machine: Callable[[Mapping[str, str]], None], files: Mapping[str, str], cores: int
) -> None:
    machine(files)
    assert available_cores() == cores


MEMORY = "MemTotal: 99 kB\nMemAvailable:   8388608 kB\n"


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, math.inf),
        ({"/proc/meminfo": MEMORY}, 8 * GB),
        ({"/proc/meminfo": MEMORY, "/proc/self/cgroup": "0::/a", f"{V2}/a/memory.max": "max"}, 8 * GB),
        (
            {
                "/proc/meminfo": MEMORY,
                "/proc/self/cgroup": "0::/a",
                f"{V2}/a/memory.max": str(4 * GB),
                f"{V2}/a/memory.current": str(3 * GB),
                f"{V2}/a/memory.stat": f"anon {GB}\nfile {2 * GB}\n",
            },
            3 * GB,
        ),
        (
            {
                "/proc/meminfo": MEMORY,
                "/proc/self/cgroup": "4:memory:/a",
                f"{V2}/memory/memory.limit_in_bytes": str(5 * GB),
                f"{V2}/memory/memory.usage_in_bytes": str(3 * GB),
                f"{V2}/memory/memory.stat": f"cache 5\ntotal_cache {GB}\n",
            },
            3 * GB,
        ),
        ({"/proc/self/cgroup": "0::/", f"{V2}/memory.max": "10", f"{V2}/memory.current": "20"}, 0),
    ],
    ids=str,
)
def test_memory_is_what_system_and_control_groups_have_left(
    machine: Callable[[Mapping[str, str]], None], files: Mapping[str, str], available: float
) -> None:
    """Pages of files are left: the system takes them back when it needs them."""
    machine(files)
    assert available_memory() == available


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: other\n", {"fpu", "avx2", "fma"}),
        ("processor : 0\nFeatures\t: fp asimd asimddp i8mm\n", {"fp", "asimd", "asimddp", "i8mm"}),
        ("", set()),
    ],
)
def test_instructions_are_those_of_the_first_core(
    machine: Callable[[Mapping[str, str]], None], cpuinfo: str, flags: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    machine({"/proc/cpuinfo": cpuinfo})
    assert instruction_flags() == flags


@pytest.mark.parametrize(
    ("group", "files"),
    [
        ("0::/app/job\n", {"app/job/cpu.max": "max 100000\n", "app/cpu.max": "50000 100000\n"}),
        (
            "5:cpu,cpuacct:/job\n1:name=systemd:/\n",
            {"cpu/job/cpu.cfs_quota_us": "50000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_half_a_core_gets_one_thread(
    group: str, files: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system lays the files out, and down to the threads of a model."""
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    read = cpu._text
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(cpu, "_text", lambda path: group if path == Path("/proc/self/cgroup") else read(path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.delenv("MOGEMMA_THREADS", raising=False)
    with SyncGemmaModel(GEMMA) as model:
        assert (available_cores(), model.info.threads) == (1, 1)


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    assert available_memory() > 0


def python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_process_bound_to_one_core_gets_one_thread() -> None:
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from mogemma.cpu import available_cores; print(available_cores())"
    assert python(program).stdout == "1\n"


def test_threads_are_by_default_the_cores_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOGEMMA_THREADS", raising=False)
    with SyncGemmaModel(GEMMA) as model:
        assert model.info.threads == available_cores()


def test_threads_come_from_the_call_else_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than cores are slow, but a choice."""
    monkeypatch.setenv("MOGEMMA_THREADS", "3")
    with SyncGemmaModel(GEMMA) as by_environment, SyncGemmaModel(GEMMA, threads=5) as by_call:
        assert (by_environment.info.threads, by_call.info.threads) == (3, 5)
        assert by_environment.generate("a", max_tokens=5, seed=1) == by_call.generate("a", max_tokens=5, seed=1)


@pytest.mark.parametrize("threads", ["0", "257", "many", "-1", "1.5", "9" * 30])
def test_threads_in_the_environment_that_make_no_sense_are_named(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("MOGEMMA_THREADS", threads)
    with pytest.raises(ConfigError, match=r"environment variable MOGEMMA_THREADS.*1 to 256"):
        SyncGemmaModel(GEMMA)


WRITE = """
import sys
from mogemma import SyncGemmaModel
for path, arithmetic in zip(sys.argv[1:], ("float32", "int8")):
    with SyncGemmaModel(path, arithmetic=arithmetic, threads=2) as model:
        print(model.info.level)
        print(model.complete(range(2, 60), max_tokens=12, temperature=0, stop_ids=()).token_ids)
        print(model.logits(range(2, 60)).tobytes().hex())
"""


def test_every_level_that_runs_here_writes_the_same(level: str) -> None:
    """The best of them is taken where none is named."""
    best = list(runnable_levels())[-1]
    done = python(WRITE, str(GEMMA), str(QUANT_ZOO / "model.gguf"), MOGEMMA_CPU_LEVEL=level)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    for first, (path, arithmetic) in enumerate([(GEMMA, "float32"), (QUANT_ZOO / "model.gguf", "int8")]):
        found_level, tokens, logits = lines[3 * first : 3 * first + 3]
        with SyncGemmaModel(path, arithmetic=arithmetic, threads=1) as model:
            assert (found_level, model.info.level) == (level, best)
            completion = model.complete(range(2, 60), max_tokens=12, temperature=0, stop_ids=())
            assert tokens == str(completion.token_ids)
            ours = model.logits(range(2, 60))
        theirs = np.frombuffer(bytes.fromhex(logits), np.float32).reshape(ours.shape)
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=2e-3)


def test_an_unknown_level_is_answered_with_those_that_run_here() -> None:
    program = "import sys; from mogemma import KernelError, SyncGemmaModel\n"
    program += "try: SyncGemmaModel(sys.argv[1])\nexcept KernelError as error: print(error)"
    said = python(program, str(GEMMA), MOGEMMA_CPU_LEVEL="z80").stdout
    assert "'z80'" in said
    assert "MOGEMMA_CPU_LEVEL" in said
    assert all(level in said for level in runnable_levels())


def test_a_level_that_the_processor_lacks_is_answered_with_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with AVX2 and nothing newer; without even that there is a sentence too."""
    plainest, *others = runnable_levels()
    needs = {one["name"]: set(one["needs"]) for one in installed_levels()}
    monkeypatch.setattr("mogemma._native.kernel.instruction_flags", lambda: frozenset(needs[plainest]))
    for lacking in others:
        with pytest.raises(KernelError, match=rf"No kernel '{lacking}'.*it can run: {plainest}\."):
            load_kernel.__wrapped__(lacking)
    assert load_kernel.__wrapped__().level == plainest
    if needs[plainest]:
        monkeypatch.setattr("mogemma._native.kernel.instruction_flags", frozenset)
        with pytest.raises(KernelError, match="it can run: none of those installed"):
            load_kernel.__wrapped__()


def installed_levels() -> list[dict[str, Any]]:
    levels: list[dict[str, Any]] = json.loads((kernel_folder() / "levels.json").read_text())["levels"]
    return levels


def test_without_kernels_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"kernels are missing from .*Install a wheel"):
        runnable_levels(tmp_path)
