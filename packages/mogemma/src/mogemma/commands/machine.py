"""What is known of this machine and this installation, for `mogemma doctor`."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ..cpu import available_cores, instruction_flags

TELLING_FLAGS = tuple(
    "avx2 fma f16c avx512f avx512bw avx512_vnni avx512_bf16 avx_vnni amx_int8 amx_bf16 asimd asimddp i8mm bf16 sve".split()
)
"""Instructions that matter to these kernels, of those that Linux names."""

_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def versions() -> dict[str, str | None]:
    """Of mogemma, Python and what it needs; None for what is not installed as a package."""
    packages = ("numpy", "cffi", "tokenizers", "click", "rich", "huggingface-hub")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"mogemma": _version("mogemma"), "python": python, **{name: _version(name) for name in packages}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def system() -> dict[str, Any]:
    """The platform, and where Python and mogemma lie."""
    libc = " ".join(platform.libc_ver()).strip()
    return {
        "platform": platform.platform(),
        "libc": libc or None,
        "executable": sys.executable,
        "package": str(Path(__file__).parents[1]),
    }


def processor() -> dict[str, Any]:
    """Its name, its telling flags and its cores.

    `cores` is what the machine has, `affinity` on how many of them this process may run; `usable` takes a container's quota
    into account besides, and is the default number of threads.
    """
    flags = instruction_flags()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": _processor_name(),
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "affinity": affinity,
        "usable": available_cores(),
    }


def _processor_name() -> str:
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def memory() -> dict[str, int | None]:
    """Bytes that the machine has, that are free for programs, and that a container may take; None where nothing tells."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = next(
        (line.split()[1] for line in _text(Path("/proc/meminfo")).splitlines() if "MemAvailable" in line), ""
    )
    limits = [int(text) for text in (_text(path).strip() for path in _MEMORY_LIMITS) if text.isdigit()]
    limit = min(limits, default=total)
    return {
        "total_bytes": total,
        "available_bytes": int(available) * 1024 if available.isdigit() else None,
        "limit_bytes": limit if limit < total else None,
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
