"""cibuildwheel's configuration says what the release's matrix says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import kernel_build
from mogemma_release.matrix import PLATFORMS, PYTHONS, SKIPPED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pydistcheck brings it

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "packages/mogemma/pyproject.toml").read_text(encoding="utf-8"))
    cibuildwheel: dict[str, Any] = project["tool"]["cibuildwheel"]
    return cibuildwheel


def test_every_python_of_the_matrix_tests_the_wheel(told: dict[str, Any]) -> None:
    assert told["build"] == [f"cp{version.replace('.', '')}-*" for version in PYTHONS]
    assert told["test-command"]


def test_every_platform_of_the_matrix_is_built(told: dict[str, Any]) -> None:
    configured = {(system, arch) for system in ("linux", "macos") for arch in told[system]["archs"]}
    assert configured == {(platform.system, platform.cibw_arch) for platform in PLATFORMS}


def test_what_is_skipped_is_what_the_matrix_skips(told: dict[str, Any]) -> None:
    patterns = {"*-musllinux*": "musllinux", "*-manylinux_i686": "i686", "*-win*": "Windows", "pp*": "PyPy"}
    assert [patterns[skip] for skip in told["skip"]] == list(SKIPPED)


def test_the_image_has_the_glibc_that_the_compiler_needs(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """And the wheel keeps its older tag, for nothing repairs it."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for arch in told["linux"]["archs"]:
        found = re.fullmatch(r"manylinux_(\d+)_(\d+)", told["linux"][f"manylinux-{arch}-image"])
        assert found is not None
        glibc = ("glibc", f"{found[1]}.{found[2]}")
        monkeypatch.setattr("platform.libc_ver", lambda glibc=glibc: glibc)
        kernel_build.check_host()
    assert [told[part]["repair-wheel-command"] for part in ("linux", "macos")] == ["", ""]


def test_builds_are_held_to_the_locked_tools_and_the_commits_time(told: dict[str, Any]) -> None:
    for environment in (told["environment"], told["macos"]["environment"]):
        assert environment["UV_BUILD_CONSTRAINT"] == "build/tools.txt"
    assert "SOURCE_DATE_EPOCH" in told["environment-pass"]
    assert "--output-file build/tools.txt" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_matrix_is_what_the_kernels_are_built_for() -> None:
    assert {platform.name: platform.wheel_tag for platform in PLATFORMS} == {
        name: target.wheel_platform for name, target in kernel_build.TARGETS.items()
    }
