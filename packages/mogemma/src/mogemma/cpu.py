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
        return frozenset(told.stdout.lower().split())
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
    for line in _text(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024.0
    return math.inf


def _cgroup_quota() -> float:
    """Cores that the control group of this process, and every one above it, may use; infinity without a limit."""
    quota = math.inf
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:  # version 2
            quota = min(quota, *(_quota_v2(folder) for folder in _folders(_CGROUP, path)))
        elif "cpu" in controllers.split(","):
            quota = min(quota, *(_quota_v1(folder) for folder in _folders(_CGROUP / "cpu", path)))
    return quota


def _folders(root: Path, path: str) -> list[Path]:
    """The group's folder and those above it; inside a container the path may lead outside what is mounted."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return [root.joinpath(*parts[:n]) for n in range(len(parts) + 1)]


def _quota_v2(folder: Path) -> float:
    return _ratio(*[*_text(folder / "cpu.max").split(), "", ""][:2])


def _quota_v1(folder: Path) -> float:
    return _ratio(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float:
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return math.inf  # "max", -1 or no such file: no limit
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
