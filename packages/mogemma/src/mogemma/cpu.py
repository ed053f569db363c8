"""What this machine's processor can do: its instructions, and the cores that this process may use."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def instruction_flags() -> frozenset[str]:
    """Names of the processor's instruction sets as Linux spells them in /proc/cpuinfo; empty where nothing tells."""
    if platform.system() == "Darwin":
        names = ["machdep.cpu.features", "machdep.cpu.leaf7_features"]
        told = subprocess.run(["/usr/sbin/sysctl", "-n", *names], capture_output=True, text=True, check=False)
        # Apple's names in lower case are Linux's, but for this one.
        return frozenset(told.stdout.lower().replace("avx1.0", "avx").split())
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def available_cores() -> int:
    """Cores that this process may keep busy: its affinity, cut down to the quota of its control group.

    A quota is rounded down, at least to 1: threads that wait for each other lose far more when one of them is
    throttled than a part of a core could give.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(cores, _cgroup_quota())))


def available_memory() -> float:
    """Bytes that new work may take without pushing anything out; infinity where the system does not tell."""
    available = math.inf
    for line in _text(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            available = int(value.split()[0]) * 1024.0
    return min(available, _cgroup_memory())


def _cgroup_quota() -> float:
    """Cores that the control group of this process, and every one above it, may use; infinity without a limit."""
    return min([math.inf, *map(_quota_v2, _groups_v2()), *map(_quota_v1, _groups_v1("cpu"))])


def _cgroup_memory() -> float:
    """Bytes that the control group of this process, and every one above it, have left; infinity without a limit."""
    return min([math.inf, *map(_memory_v2, _groups_v2()), *map(_memory_v1, _groups_v1("memory"))])


def _groups_v2() -> list[Path]:
    return [folder for controllers, path in _groups() if not controllers for folder in _folders(_CGROUP, path)]


def _groups_v1(controller: str) -> list[Path]:
    paths = [path for controllers, path in _groups() if controller in controllers.split(",")]
    return [folder for path in paths for folder in _folders(_CGROUP / controller, path)]


def _groups() -> list[tuple[str, str]]:
    """Controllers (none in version 2) and path of each control group of this process."""
    lines = _text(Path("/proc/self/cgroup")).splitlines()
    fields = [line.split(":", 2) for line in lines]
    return [(field[1], field[2]) for field in fields if len(field) == 3]


def _folders(root: Path, path: str) -> list[Path]:
    """The group's folder and those above it; inside a container the path may lead outside what is mounted."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return [root.joinpath(*parts[:n]) for n in range(len(parts) + 1)]


def _quota_v2(folder: Path) -> float:
    return _ratio(*[*_text(folder / "cpu.max").split(), "", ""][:2])


def _quota_v1(folder: Path) -> float:
    return _ratio(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _memory_v2(folder: Path) -> float:
    used = _number(folder / "memory.current") - _statistic(folder, "file")
    return max(0, _number(folder / "memory.max", math.inf) - used)


def _memory_v1(folder: Path) -> float:
    used = _number(folder / "memory.usage_in_bytes") - _statistic(folder, "total_cache")
    return max(0, _number(folder / "memory.limit_in_bytes", math.inf) - used)


def _statistic(folder: Path, name: str) -> float:
    """Here: the pages of files that are kept in memory for as long as nothing else needs it."""
    for line in _text(folder / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _number(file: Path, default: float = 0) -> float:
    text = _text(file).strip()
    return int(text) if text.isdigit() else default


def _ratio(quota: str, period: str) -> float:
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return math.inf  # "max", -1 or no such file: no limit
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
