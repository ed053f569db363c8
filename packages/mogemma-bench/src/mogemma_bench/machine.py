"""The machine and the build that a figure belongs to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata, util
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """What a figure depends on besides the model.

    Attributes:
        cores: Cores that this process may run on.
        cpu_level: Instructions that the kernels use.
        threads: Threads that compute.
        load_average: Processes that wanted a core in the last minute, when the bench began; far above 0, others disturbed it.
        commit: Of the clone that mogemma runs from, "-dirty" with changes; None for an installed one.
        measured_at: UTC, ISO 8601.
    """

    python: str
    platform: str
    processor: str
    cores: int
    memory_bytes: int
    cpu_level: str
    threads: int
    load_average: float
    mogemma: str
    commit: str | None
    measured_at: str


def load_average() -> float:
    """Ask before the work: afterwards it is mostly one's own."""
    return os.getloadavg()[0]


def environment(cpu_level: str, threads: int, load: float) -> Environment:
    """This machine, as mogemma uses it; `load` is the load average before."""
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpu_level=cpu_level,
        threads=threads,
        load_average=round(load, 2),
        mogemma=metadata.version("mogemma"),
        commit=_commit(),
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _processor() -> str:
    """Its maker's name for it, else whatever the system says."""
    if platform.system() == "Darwin":
        told = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
    else:
        told = _cpuinfo_name(Path("/proc/cpuinfo"))
    return told or platform.processor() or platform.machine()


def _cpuinfo_name(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")


def _commit() -> str | None:
    """The commit of mogemma's sources, where it runs from its clone."""
    spec = util.find_spec("mogemma")
    return None if spec is None or spec.origin is None else commit_of(Path(spec.origin))


def commit_of(source: Path) -> str | None:
    """The commit of the repository that keeps a file; None where none does, even if the file lies inside one."""
    folder, git = source.parent, shutil.which("git")
    if git is None or _git(git, folder, "ls-files", "--error-unmatch", source.name) is None:
        return None
    return _git(git, folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(  # noqa: S603  fixed arguments, and a folder of our own
        [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return None if done.returncode else done.stdout.strip()
