"""The configuration of cibuildwheel, held to the definition."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from ..matrix import PYTHONS, SKIPPED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRIED = "mogemma doctor"
"""What has to run on every Python: an import alone does not load the kernels."""

NEVER = ("cp310-musllinux_x86_64", "pp310-manylinux_x86_64")


def findings(project: str) -> Iterator[str]:
    """What is wrong in the text of a pyproject.toml; nothing if it does not speak of cibuildwheel."""
    configuration = tomllib.loads(project).get("tool", {}).get("cibuildwheel")
    if configuration is None:
        return
    for minor in range(8, 20):
        is_built = _is_built(configuration, f"cp3{minor}-manylinux_x86_64")
        if is_built is not (f"3.{minor}" in PYTHONS):
            yield f"cibuildwheel {'takes' if is_built else 'leaves out'} Python 3.{minor}"
    yield from (f"cibuildwheel builds {identifier}" for identifier in NEVER if _is_built(configuration, identifier))
    if TRIED not in str(configuration.get("test-command")) or "test-skip" in configuration:
        yield f"cibuildwheel does not run {TRIED} on every Python"
    for name, reason in SKIPPED.items():
        if reason not in project:
            yield f"does not say why there is nothing for {name}: {reason}"


def _is_built(configuration: Mapping[str, Any], identifier: str) -> bool:
    def matches(option: str, default: str) -> bool:
        return any(fnmatch(identifier, pattern) for pattern in _patterns(configuration.get(option, default)))

    return matches("build", "*") and not matches("skip", "")


def _patterns(option: str | Sequence[str]) -> Iterator[str]:
    """The patterns of an option, with their braces written out."""
    for pattern in option.split() if isinstance(option, str) else option:
        if braces := re.search(r"\{([^{}]*)\}", pattern):
            start, end = pattern[: braces.start()], pattern[braces.end() :]
            yield from _patterns([start + part + end for part in braces[1].split(",")])
        else:
            yield pattern
