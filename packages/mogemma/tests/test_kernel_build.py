"""The build of the kernels, tried on a kernel of two functions, so that it takes seconds."""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from pathlib import Path

import pytest
from small_kernel import HEADER, TWICE, write_kernel

import build_backend
import kernel_build
from kernel_build import (
    MOJO_REQUIREMENT,
    TARGETS,
    CpuLevel,
    KernelBuildError,
    Target,
    build_kernels,
    check_host,
    chosen_levels,
    current_target,
    exported_names,
    find_mojo,
)

PROJECT = Path(kernel_build.__file__).parent
NEEDS_RUNTIME = "def twice(x: Float32) -> Float32:\n    var xs: List[Float32] = [x, x]\n    return xs[0] + xs[Int(x)]\n"


class Build:
    """Builds into one place, again and again, and remembers what was compiled."""

    def __init__(self, mojo: Path) -> None:
        self.mojo, self.out, self.cache = mojo, mojo.parent / "out", mojo.parent / "cache"
        self.compiled: list[str] = []

    def __call__(self, target: Target | None = None, *levels: CpuLevel) -> list[Path]:
        self.compiled.clear()
        target = target or current_target()
        levels = levels or target.levels[:1]
        build_kernels(self.mojo, self.out, cache=self.cache, target=target, levels=levels, report=self.compiled.append)
        return sorted(self.out.glob("libmogemma-*"))

    @property
    def library(self) -> Path:
        (library,) = self.out.glob("libmogemma-*")
        return library


@pytest.fixture
def mojo(tmp_path: Path) -> Path:
    return write_kernel(tmp_path)


@pytest.fixture
def build(mojo: Path) -> Build:
    return Build(mojo)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A finished build, for tests that only look at it."""
    build = Build(write_kernel(tmp_path_factory.mktemp("built")))
    build()
    return build


def test_the_library_shows_what_the_header_declares_and_nothing_else(built: Build) -> None:
    loaded = ctypes.CDLL(str(built.library))
    loaded.mogemma_twice.restype = ctypes.c_float
    assert loaded.mogemma_abi_version() == 7
    assert loaded.mogemma_twice(ctypes.c_float(1.5)) == 3.0
    assert not hasattr(loaded, "mogemma_inner")


def test_the_library_needs_no_mojo_runtime_and_no_folder_of_the_builder(built: Build) -> None:
    content = built.library.read_bytes()
    assert b"KGEN" not in content
    assert str(built.mojo).encode() not in content
    assert b"modular" not in content


MACHINES = {  # the bytes that name the format and the processor: ELF's e_machine, Mach-O's cputype
    "linux-x86_64": (b"\x7fELF", 18, b"\x3e\x00"),
    "linux-aarch64": (b"\x7fELF", 18, b"\xb7\x00"),
    "macos-arm64": (b"\xcf\xfa\xed\xfe", 4, b"\x0c\x00\x00\x01"),
    "macos-x86_64": (b"\xcf\xfa\xed\xfe", 4, b"\x07\x00\x00\x01"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_built_from_this_machine(build: Build, name: str) -> None:
    target = TARGETS[name]
    magic, at, machine = MACHINES[name]
    (library,) = build(target, target.levels[-1])
    content = library.read_bytes()
    assert content.startswith(magic)
    assert content[at : at + len(machine)] == machine


def test_the_list_of_levels_says_what_each_needs(built: Build) -> None:
    (level,) = json.loads((built.out / "levels.json").read_text(encoding="utf-8"))["levels"]
    plainest = current_target().levels[0]
    assert level == {"name": plainest.name, "library": built.library.name, "needs": sorted(plainest.needs)}


def test_levels_go_from_the_plainest_processor_up() -> None:
    for target in TARGETS.values():
        for lower, higher in zip(target.levels, target.levels[1:], strict=False):
            assert lower.needs < higher.needs


def test_the_header_lies_beside_the_libraries(built: Build) -> None:
    assert (built.out / "mogemma.h").read_text(encoding="utf-8") == HEADER


def test_only_an_edit_costs_compile_time(build: Build) -> None:
    (library,) = build()
    assert build.compiled == [f"compiling {library.name}"]
    library.unlink()
    assert build() == [library]
    assert build.compiled == []
    (build.mojo / "src/ops/twice.mojo").write_text(TWICE.replace("2 * x", "3 * x"), encoding="utf-8")
    build()
    assert build.compiled == [f"compiling {library.name}"]
    assert len(list(build.cache.glob("*-libmogemma-*"))) == 1


def test_libraries_of_an_earlier_build_do_not_stay(build: Build) -> None:
    """A wheel must hold what was asked for, not what lay about."""
    build.out.mkdir()
    old = build.out / "libmogemma-old.so"
    old.touch()
    assert old not in build()


def test_the_same_sources_give_the_same_bytes_in_any_folder(build: Build, built: Build) -> None:
    assert build()[0].read_bytes() == built.library.read_bytes()


@pytest.mark.parametrize("name", ["linux-x86_64", "macos-arm64"])
def test_a_function_that_only_the_header_knows_stops_the_build(build: Build, name: str) -> None:
    header = build.mojo / "include/mogemma.h"
    header.write_text(HEADER + "int32_t mogemma_forgotten(void);\n", encoding="utf-8")
    with pytest.raises(KernelBuildError, match="mogemma_forgotten"):
        build(TARGETS[name])


def test_a_kernel_that_would_need_the_mojo_runtime_stops_the_build(build: Build) -> None:
    """It would build, and then fail to load on every machine without Mojo."""
    (build.mojo / "src/ops/twice.mojo").write_text(NEEDS_RUNTIME, encoding="utf-8")
    with pytest.raises(KernelBuildError, match=r"would need _?KGEN_.*Mojo runtime"):
        build()


def test_an_error_of_the_compiler_is_shown(build: Build) -> None:
    (build.mojo / "src/ops/twice.mojo").write_text(
        "def twice(x: Float32) -> Float32:\n    return y\n", encoding="utf-8"
    )
    with pytest.raises(KernelBuildError, match=r"twice\.mojo:2.*error.*'y'"):
        build()
    assert not list(build.out.glob("libmogemma-*"))


def test_a_missing_compiler_is_a_sentence(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(KernelBuildError, match=f"{MOJO_REQUIREMENT} is not installed"):
        build()


def test_missing_sources_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KernelBuildError, match="Mojo sources are missing"):
        find_mojo(tmp_path / "packages" / "mogemma")


def test_exports_are_the_headers_functions_without_comments_and_types() -> None:
    header = "typedef int (*mogemma_hook)(int);\nmogemma_model *mogemma_open(mogemma_hook hook);\n" + HEADER
    assert exported_names(header) == ("mogemma_abi_version", "mogemma_open", "mogemma_twice")


def test_a_header_without_functions_is_an_error() -> None:
    with pytest.raises(KernelBuildError, match="declares no function"):
        exported_names("/* mogemma_x(void); */")


@pytest.mark.parametrize(
    ("asked", "archflags", "machine", "expected"),
    [
        ("linux-x86_64", "", "x86_64", "linux-x86_64"),
        ("linux-aarch64", "", "x86_64", "linux-aarch64"),
        ("macosx-11.0-arm64", "", "arm64", "macos-arm64"),
        ("macosx-14.2-x86_64", "", "arm64", "macos-x86_64"),
        ("macosx-10.9-universal2", "", "arm64", "macos-arm64"),
        ("macosx-10.9-universal2", "-arch x86_64", "arm64", "macos-x86_64"),
    ],
)
def test_the_target_comes_from_the_packaging_tools_variables(
    monkeypatch: pytest.MonkeyPatch, asked: str, archflags: str, machine: str, expected: str
) -> None:
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", asked)
    monkeypatch.setenv("ARCHFLAGS", archflags)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert current_target() is TARGETS[expected]


@pytest.mark.parametrize("asked", ["win-amd64", "linux-i686", "linux-riscv64", "freebsd-14-amd64", ""])
def test_a_platform_without_kernels_is_named(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", asked)
    with pytest.raises(KernelBuildError, match=f"no kernel for {asked}; it runs on linux-x86_64"):
        current_target()


def test_two_architectures_in_one_wheel_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", "macosx-10.9-universal2")
    monkeypatch.setenv("ARCHFLAGS", "-arch arm64 -arch x86_64")
    with pytest.raises(KernelBuildError, match="arm64 and x86_64 in one wheel"):
        current_target()


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("Linux", "x86_64", ("musl", "1.2")),
        ("Linux", "x86_64", ("glibc", "2.31")),
        ("Linux", "riscv64", ("glibc", "2.39")),
        ("Darwin", "x86_64", ("", "")),
        ("Windows", "AMD64", ("", "")),
    ],
)
def test_a_machine_that_mojo_does_not_run_on_is_told_early(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: tuple[str, str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(KernelBuildError, match=r"cannot be built on this machine.*Install a ready wheel"):
        check_host()


def test_this_machine_may_build() -> None:
    check_host()


def test_levels_can_be_limited_while_developing(monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGETS["linux-x86_64"]
    assert chosen_levels(target, "") == target.levels
    assert chosen_levels(target, " x86_64_v4, x86_64_v3,") == target.levels[:2]
    monkeypatch.setenv("MOGEMMA_CPU_LEVELS", "x86_64_v4")
    assert chosen_levels(target) == target.levels[1:2]


def test_native_is_the_best_level_of_this_machine() -> None:
    target = current_target()
    (level,) = chosen_levels(target, "native")
    if Path("/proc/cpuinfo").exists():
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        runnable = [level for level in target.levels if level.needs <= flags]
        assert level == (runnable or target.levels)[-1 if runnable else 0]


def test_a_level_of_another_processor_is_refused() -> None:
    with pytest.raises(KernelBuildError, match="names x86_64_v9; linux x86_64 has native, x86_64_v3"):
        chosen_levels(TARGETS["linux-x86_64"], "x86_64_v9")


def test_the_compiler_is_required_for_wheels_and_not_for_sdists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert MOJO_REQUIREMENT in build_backend.get_requires_for_build_wheel()
    assert MOJO_REQUIREMENT in build_backend.get_requires_for_build_editable()
    assert MOJO_REQUIREMENT not in build_backend.get_requires_for_build_sdist()


def test_a_machine_without_the_compiler_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2.5"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(SystemExit, match="error: mogemma cannot be built on this machine"):
        build_backend.get_requires_for_build_wheel()


def test_development_and_wheels_use_one_version_of_the_compiler() -> None:
    workspace = PROJECT.parent.parent / "pyproject.toml"
    assert f'"{MOJO_REQUIREMENT} ;' in workspace.read_text(encoding="utf-8")
