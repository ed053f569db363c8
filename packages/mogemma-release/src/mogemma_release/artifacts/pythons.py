"""The Pythons of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 10)
_ASK = "import sys; print(*sys.version_info[:2], sys.implementation.name)"
_ASK_SECONDS = 60


def pythons() -> dict[tuple[int, int], Path]:
    """One interpreter of each version that mogemma supports, from PATH, pyenv and uv."""
    found: dict[tuple[int, int], Path] = {}
    for candidate in _candidates():
        version = _version(candidate)
        if version and version >= OLDEST:
            found.setdefault(version, candidate)
    return dict(sorted(found.items()))


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for minor in range(OLDEST[1], 20):
        if path := shutil.which(f"python3.{minor}"):
            yield Path(path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.*/bin/python3"))
    ours = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local" / "share" / "uv" / "python")
    yield from sorted(ours.glob("cpython-3.*/bin/python3"))


def _version(python: Path) -> tuple[int, int] | None:
    """None where it does not run, as pyenv's shims of versions that are not chosen, or is no CPython."""
    try:
        told = subprocess.run(
            [str(python), "-I", "-c", _ASK], capture_output=True, text=True, check=False, timeout=_ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode or not told.stdout.endswith("cpython\n"):
        return None
    major, minor, _ = told.stdout.split()
    return int(major), int(minor)
