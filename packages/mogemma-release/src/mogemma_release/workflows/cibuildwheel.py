"""The configuration of cibuildwheel, held to the definition."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from ..matrix import PLATFORMS, PYTHONS
from .workflow import differs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRIED = "mogemma.commands.self_check"
"""What has to run on every Python: an import alone does not load the kernels."""

UNTRIED = frozenset({"*-macosx_x86_64"})
"""What cibuildwheel need not try: the machines are arm64, and Apple's emulation does not tell that it has AVX2."""

SKIPPED = ("cp310-musllinux_x86_64", "cp310-manylinux_i686", "cp310-win_amd64", "pp310-manylinux_x86_64")
"""A build of each kind that matrix.SKIPPED has the reason against."""


def findings(project: str) -> Iterator[str]:
    """What is wrong in the text of a pyproject.toml."""
    configuration = tomllib.loads(project).get("tool", {}).get("cibuildwheel")
    if configuration is None:
        yield "says nothing of cibuildwheel"
        return
    build, skip = (_patterns(configuration.get(option, "")) for option in ("build", "skip"))
    for minor in range(8, 20):
        is_built = _is_built(f"cp3{minor}-manylinux_x86_64", build, skip)
        if is_built is not (f"3.{minor}" in PYTHONS):
            yield f"cibuildwheel {'takes' if is_built else 'leaves out'} Python 3.{minor}"
    yield from (f"cibuildwheel does not skip {each}" for each in SKIPPED if not _matches(each, skip))
    for pattern in skip:
        if not re.search(rf'"{re.escape(pattern)}",?\s+# \w', project):
            yield f"has no reason beside {pattern}, which is skipped"
    for system in ("linux", "macos"):
        wanted = [platform.cibw_arch for platform in PLATFORMS if platform.system == system]
        yield from differs(f"cibuildwheel builds for {system} on", configuration.get(system, {}).get("archs"), wanted)
    yield from _in_tests(configuration)


def _in_tests(configuration: Mapping[str, Any]) -> Iterator[str]:
    for options in (configuration, configuration.get("linux", {}), configuration.get("macos", {})):
        if untried := set(_patterns(options.get("test-skip", ""))) - UNTRIED:
            yield f"cibuildwheel does not try {', '.join(sorted(untried))}"
        if TRIED not in str(options.get("test-command", configuration.get("test-command"))):
            yield f"cibuildwheel does not run {TRIED}"
            return


def _is_built(identifier: str, build: Sequence[str], skip: Sequence[str]) -> bool:
    return _matches(identifier, build) and not _matches(identifier, skip)


def _matches(identifier: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(identifier, pattern) for pattern in patterns)


def _patterns(option: str | Sequence[str]) -> list[str]:
    return option.split() if isinstance(option, str) else list(option)
