"""Checks that others wrote: twine, check-wheel-contents, pydistcheck and, for Linux, auditwheel."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import process
from .checks import Checks, NotHereError
from .sdist import Sdist
from .wheel import Wheel

LIMIT_SECONDS = 120.0

_IGNORED_BY_CHECK_WHEEL_CONTENTS = "W004"
"""It takes any .so for a module to import, and libmogemma-<level>.so is no name of one: cffi opens it by its path."""

_PYDISTCHECK = """import sys
from pydistcheck.cli import check
sys.exit(check())"""
"""It has no __main__."""

_PYDISTCHECK_LIMITS = (
    *("--max-allowed-size-compressed", "2MB", "--max-allowed-size-uncompressed", "20MB"),
    *("--max-allowed-files", "500", "--max-path-length", "120"),
)
"""For a wheel that holds up to four kernels of a megabyte each; the defaults are for packages of fifty."""


def twine(subject: Wheel | Sdist) -> Iterator[str]:
    yield from _complaints(["-m", "twine", "--no-color", "check", "--strict"], subject.archive.file)


def check_wheel_contents(wheel: Wheel) -> Iterator[str]:
    options = ["--no-config", "--ignore", _IGNORED_BY_CHECK_WHEEL_CONTENTS, "--toplevel", "mogemma"]
    yield from _complaints(["-m", "check_wheel_contents", *options], wheel.archive.file)


def pydistcheck(subject: Wheel | Sdist) -> Iterator[str]:
    yield from _complaints(["-c", _PYDISTCHECK, *_PYDISTCHECK_LIMITS], subject.archive.file)


def auditwheel(wheel: Wheel) -> Iterator[str]:
    """The tag of the wheel must not be older than the oldest glibc that has all that its libraries call.

    Never `auditwheel repair`: there is nothing to bring along, and it would put another tag on the wheel.
    """
    if sys.platform != "linux":
        raise NotHereError("auditwheel runs on Linux only")
    status, told = _run(["-m", "auditwheel", "show", "--json"], wheel.archive.file)
    try:
        report = json.loads(told[told.index("{") :])
        tag, external = str(report["overall_tag"]), sorted(report["external_libs"])
    except (ValueError, LookupError, TypeError):
        yield f"auditwheel says nothing of it (status {status}): {' / '.join(told.splitlines()[-4:])}"
        return
    if _glibc(tag) > _glibc(wheel.platform.wheel_tag):
        yield f"it needs {tag}"
    if external:
        yield f"it needs {', '.join(external)}"


def _glibc(tag: str) -> tuple[int, int]:
    """The version of glibc in a tag such as manylinux_2_17_x86_64; above all others for linux_x86_64, which promises none."""
    found = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    return (int(found[1]), int(found[2])) if found else (1000, 0)


def _complaints(arguments: Sequence[str], file: Path) -> Iterator[str]:
    status, told = _run(arguments, file)
    if status:
        yield " / ".join(line.strip() for line in told.splitlines()[-12:] if line.strip())


def _run(arguments: Sequence[str], file: Path) -> tuple[int, str]:
    """The exit status of a Python program given a file, and what it said."""
    with tempfile.TemporaryDirectory() as temp:
        log = Path(temp, "log")
        command = [sys.executable, *arguments, str(file.resolve())]
        ran = process.run(command, Path(temp), log, limit_seconds=LIMIT_SECONDS, variables={"NO_COLOR": "1"})
        told = log.read_text(encoding="utf-8", errors="replace")
        return (1, f"{told}\nended after {LIMIT_SECONDS:.0f} s") if ran.timed_out else (ran.exit_status, told)


_ANY: dict[str, Callable[[Wheel | Sdist], Iterator[str]]] = {"twine check --strict": twine, "pydistcheck": pydistcheck}
SDIST_CHECKS: Checks[Sdist] = {**_ANY}
WHEEL_CHECKS: Checks[Wheel] = {**_ANY, "check-wheel-contents": check_wheel_contents}
LINUX_CHECKS: Checks[Wheel] = {"auditwheel": auditwheel}
