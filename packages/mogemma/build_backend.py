"""setuptools' build backend, plus one question: can the kernels be compiled on this machine at all?

mojo-compiler is a build requirement from here, not from pyproject.toml, because no requirement marker can tell glibc
from musl: where there is no compiler, one sentence says so instead of a resolver's "no matching distribution". An
sdist compiles nothing, so it needs neither the compiler nor such a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

import kernel_build

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings: TypeAlias = "Mapping[str, str | list[str] | None] | None"


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), _compiler()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), _compiler()]


def _compiler() -> str:
    try:
        kernel_build.check_host()
        kernel_build.current_target()
    except kernel_build.KernelBuildError as error:
        raise SystemExit(f"error: {error}") from error
    return kernel_build.MOJO_REQUIREMENT
