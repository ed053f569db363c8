"""Does the same commit give the same bytes? Two builds under conditions that have nothing in common are compared.

The first is what `release build` does. The second has another folder, home, time zone, umask and order of hashes, another
locale and one core where the system has them, compiles all kernels anew, and builds the wheels out of its sdist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import ReleaseError
from ..files import sha256
from ..matrix import PLATFORMS, Platform
from ..repository import Repository
from .archives import Archive, read_sdist, read_wheel
from .build import Conditions, Report, artifacts_in, build_artifacts

_DIFFOSCOPE_SECONDS = 600.0
_MOST_LINES = 200

_UTF_8 = re.compile(r"\.utf-?8(@|$)", re.IGNORECASE)
_UNLIKE_C = ("tr_", "az_", "fa_", "ar_")
"""Where the small letter of I is not i, then where digits are others."""


@dataclass(frozen=True)
class Comparison:
    """An artifact of two builds.

    Attributes:
        digests: SHA-256 of it in each build.
        account: In what they differ; empty where they do not.
    """

    name: str
    digests: tuple[str, str]
    account: str = ""

    @property
    def same(self) -> bool:
        return self.digests[0] == self.digests[1]


def reproduce(
    repository: Repository,
    platforms: Sequence[Platform] = PLATFORMS,
    *,
    locale: str | None = None,
    levels: str = "",
    report: Report = lambda _: None,
) -> list[Comparison]:
    """Build everything twice and compare; `locale` is the second build's, C if none.

    Raises:
        ReleaseError: Something cannot be built, or the two builds did not make the same files.
    """
    with tempfile.TemporaryDirectory(prefix="mogemma-reproduce-") as temp:
        ordinary, other = Path(temp, "one"), Path(temp, "another place", "two")
        report("the first build")
        build_artifacts(repository, ordinary, platforms, Conditions(_ordinary_variables(), levels=levels), report)
        report("the second build")
        home = Path(temp, "home")
        home.mkdir()
        build_artifacts(repository, other, platforms, other_conditions(home, locale, levels), report)
        return list(compare(ordinary, other))


def _ordinary_variables() -> Mapping[str, str]:
    return {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}


def installed_locales() -> list[str]:
    """What `locale -a` lists; nothing where that is missing."""
    if not shutil.which("locale"):
        return []
    return subprocess.run(
        ["locale", "-a"], capture_output=True, text=True, errors="replace", check=False
    ).stdout.split()


def other_locale(installed: Sequence[str]) -> str | None:
    """The one least like C; None where there is only C. One that is not installed would be C too, and nothing would say so."""

    def likeness(name: str) -> tuple[int, str]:
        unlike = [i for i, start in enumerate(_UNLIKE_C) if name.startswith(start)]
        return unlike[0] if unlike else len(_UNLIKE_C) + name.startswith("en_"), name

    others = [name for name in installed if _UTF_8.search(name) and not name.startswith(("C.", "POSIX"))]
    return min(others, key=likeness, default=None)


def other_conditions(home: Path, locale: str | None = None, levels: str = "") -> Conditions:
    """As different from the ordinary as one machine allows."""
    variables = {
        "TZ": "Pacific/Kiritimati",  # the day after, for half of the world
        "LC_ALL": locale or "C",
        "PYTHONHASHSEED": "4711",
        "HOME": str(home),
        "TMPDIR": str(home),
        "UV_CACHE_DIR": _uv_cache(),  # what is downloaded is held to its digest anyway
    }
    prefix = ["sh", "-c", 'umask 077 && exec "$@"', "sh"]
    if hasattr(os, "sched_getaffinity") and shutil.which("taskset"):
        prefix += ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    return Conditions(variables, prefix, fresh=True, from_sdist=True, levels=levels)


def _uv_cache() -> str:
    done = subprocess.run([os.environ.get("UV", "uv"), "cache", "dir"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"uv does not say where its cache is: {done.stderr.strip()}")
    return done.stdout.strip()


def compare(first: Path, second: Path) -> Iterator[Comparison]:
    """The artifacts of two folders, byte by byte.

    Raises:
        ReleaseError: One holds what the other does not.
    """
    names = [file.name for file in artifacts_in(first)]
    if alone := set(names) ^ {file.name for file in artifacts_in(second)}:
        raise ReleaseError(f"Only one of the two builds made {', '.join(sorted(alone))}.")
    for name in names:
        one, two = first / name, second / name
        digests = sha256(one), sha256(two)
        yield Comparison(name, digests, "" if digests[0] == digests[1] else account(one, two))


def account(one: Path, two: Path) -> str:
    """In what two artifacts differ: diffoscope's words where it is installed, else a list of entries."""
    program = shutil.which("diffoscope")
    if program is None:
        return own_account(one, two) + "\n(diffoscope, which would say more, is not installed.)"
    with tempfile.TemporaryDirectory() as temp:
        log = Path(temp, "log")
        process.run([program, "--text", "-", str(one), str(two)], Path(temp), log, limit_seconds=_DIFFOSCOPE_SECONDS)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    cut = [f"... {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    return "\n".join([*lines[:_MOST_LINES], *cut])


def own_account(one: Path, two: Path) -> str:
    read = read_wheel if one.suffix == ".whl" else read_sdist
    return "\n".join(_differences(read(one), read(two)))


def _differences(one: Archive, two: Archive) -> Iterator[str]:
    for name in sorted(one.contents.keys() ^ two.contents.keys()):
        yield f"{name} is only in one of them"
    for name in sorted(one.contents.keys() & two.contents.keys()):
        a, b = one.contents[name], two.contents[name]
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            yield f"{name} differs from byte {at} on ({len(a)} and {len(b)} bytes)"
    if list(one.contents) != list(two.contents):
        yield "the entries are not in one order"
    if one.times != two.times:
        yield f"times: {sorted(one.times)[:3]} and {sorted(two.times)[:3]}"
    if one.modes != two.modes:
        yield f"modes: {', '.join(sorted(one.modes))} and {', '.join(sorted(two.modes))}"
    if (list(one.contents.items()), one.times, one.modes) == (list(two.contents.items()), two.times, two.modes):
        yield "the contents are the same: only the compression differs, as between two zlibs"
