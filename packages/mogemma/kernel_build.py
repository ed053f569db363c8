"""Compile the Mojo kernels: one shared library for each CPU level of a target.

    mojo/src/abi.mojo ── mojo ──> kernel.o ── lld ──> libmogemma-<level>.so

The compiler and the linker both come from the PyPI package mojo-compiler; no C compiler, SDK or Mojo runtime is used,
so any supported machine builds for any target. What is built for comes from the variables that Python's packaging
tools set: _PYTHON_HOST_PLATFORM, and ARCHFLAGS on macOS. MOGEMMA_CPU_LEVELS (names, or `native`) limits the levels
while developing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

MOJO_VERSION = "1.2.0"
MOJO_REQUIREMENT = f"mojo-compiler=={MOJO_VERSION}"
LEVELS_VARIABLE = "MOGEMMA_CPU_LEVELS"

# All that a kernel may call. Libraries of nothing but these names stand in for the system's own at link time, so that
# a symbol which no system has stops the build, and not the user's program when it loads the kernel.
LIBC = "memcmp memcpy memmove memset pthread_create pthread_detach pthread_join pthread_self sched_yield".split()
LIBM = "cos cosf exp expf log logf pow powf sin sinf".split()
LINUX_LIBRARIES = {"libc.so.6": [*LIBC, "syscall"], "libm.so.6": [*LIBM, "sincos", "sincosf"]}
MACOS_SYMBOLS = [
    "dyld_stub_binder",
    *(f"_{name}" for name in (*LIBC, *LIBM)),
    *("___ulock_wait", "___ulock_wake", "_bzero", "___bzero", "___sincos_stret", "___sincosf_stret"),
]


class KernelBuildError(Exception):
    """The kernels cannot be built here; the message says why and what to do."""


@dataclass(frozen=True)
class CpuLevel:
    """The instructions that one library may use.

    `needs` are what a processor must have to run it, as Linux names them in /proc/cpuinfo; levels.json hands them to
    the package, which chooses a library by them when it loads.
    """

    name: str
    cpu: str
    features: str = ""
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Target:
    """A platform that kernels are built for; its levels go from the plainest CPU to the most capable."""

    system: Literal["linux", "macos"]
    arch: str
    triple: str
    wheel_platform: str
    levels: tuple[CpuLevel, ...]

    def library_name(self, level: CpuLevel) -> str:
        return f"libmogemma-{level.name}.{'so' if self.system == 'linux' else 'dylib'}"


_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_X86_64_V3 = CpuLevel("x86_64_v3", "x86-64-v3", needs=_V3)
_X86_64 = (
    _X86_64_V3,
    CpuLevel("x86_64_v4", "x86-64-v4", needs=_V4),
    # Processors from Cascade Lake to Ice Lake have the one and lack the other.
    CpuLevel("x86_64_v4_vnni", "x86-64-v4", "+avx512vnni", needs=_V4 | {"avx512_vnni"}),
    CpuLevel("x86_64_v4_bf16", "x86-64-v4", "+avx512vnni,+avx512bf16", needs=_V4 | {"avx512_vnni", "avx512_bf16"}),
)
_DOTPROD = frozenset({"asimddp", "asimdhp", "asimdrdm", "atomics", "crc32", "fphp", "lrcpc"})
_AARCH64 = (
    CpuLevel("aarch64_dotprod", "neoverse-n1", needs=_DOTPROD),
    # Not neoverse-v1, which would allow SVE: other machines with i8mm lack it, Apple's under Linux for one.
    CpuLevel("aarch64_i8mm", "neoverse-n1", "+i8mm,+bf16", needs=_DOTPROD | {"i8mm", "bf16"}),
)

# The libraries name no glibc symbol version, so the oldest manylinux of the architecture is true of them.
TARGETS = {
    "linux-x86_64": Target("linux", "x86_64", "x86_64-unknown-linux-gnu", "manylinux_2_17_x86_64", _X86_64),
    "linux-aarch64": Target("linux", "aarch64", "aarch64-unknown-linux-gnu", "manylinux_2_17_aarch64", _AARCH64),
    "macos-arm64": Target(
        "macos", "arm64", "arm64-apple-macosx11.0", "macosx_11_0_arm64", (CpuLevel("arm64_m1", "apple-m1"),)
    ),
    "macos-x86_64": Target("macos", "x86_64", "x86_64-apple-macosx11.0", "macosx_11_0_x86_64", (_X86_64_V3,)),
}


def current_target() -> Target:
    """The target that the environment asks for: a cross build's variables, else this machine.

    Raises:
        KernelBuildError: There is no kernel for that platform, or more than one is asked for at once.
    """
    asked = sysconfig.get_platform()
    system, _, rest = asked.partition("-")
    arch = rest.rpartition("-")[2]
    if system == "macosx":
        archs = sorted(set(re.findall(r"-arch\s+(\S+)", os.environ.get("ARCHFLAGS", ""))))
        if len(archs) > 1:
            raise KernelBuildError(f"ARCHFLAGS asks for {' and '.join(archs)} in one wheel; build one wheel for each.")
        # A universal Python says universal2, whichever machine it runs on.
        arch = archs[0] if archs else platform.machine() if arch == "universal2" else arch
        system = "macos"
    try:
        return TARGETS[f"{system}-{arch}"]
    except KeyError:
        raise KernelBuildError(
            f"mogemma has no kernel for {asked}; it runs on {', '.join(TARGETS)} with a 64-bit Python."
        ) from None


def check_host() -> None:
    """Say so early when mojo-compiler, and so any build of the kernels, cannot run on this machine."""
    system, machine = platform.system(), platform.machine()
    libc, version = platform.libc_ver()
    if sys.maxsize > 2**32:
        if system == "Linux" and machine in {"x86_64", "aarch64"} and libc == "glibc" and _at_least(version, 2, 34):
            return
        if system == "Darwin" and machine == "arm64" and _at_least(platform.mac_ver()[0], 13):
            return
    raise KernelBuildError(
        f"mogemma cannot be built on this machine ({system} {machine} {libc} {version}".rstrip() + "): "
        f"{MOJO_REQUIREMENT} runs on 64-bit Linux x86_64 and aarch64 with glibc 2.34 or newer, and on macOS 13 or newer "
        "with Apple silicon. Install a ready wheel (pip install --only-binary mogemma mogemma), or build elsewhere."
    )


def _at_least(version: str, *wanted: int) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", version)[: len(wanted)]) >= wanted


def find_mojo(project: Path) -> Path:
    """The folder of the Mojo sources: inside an unpacked sdist, or beside packages/ in the repository."""
    for folder in (project / "mojo", project.parent.parent / "mojo"):
        if (folder / "src" / "abi.mojo").is_file() and header_of(folder).is_file():
            return folder
    raise KernelBuildError(
        f"The Mojo sources are missing: neither {project} nor its repository has mojo/src/abi.mojo and "
        "mojo/include/mogemma.h. Build from a full clone or from the sdist."
    )


def header_of(mojo: Path) -> Path:
    return mojo / "include" / "mogemma.h"


def exported_names(header: str) -> tuple[str, ...]:
    """The functions that a header declares, sorted: all that a library shows to the outside."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", header, flags=re.DOTALL)
    names = sorted(set(re.findall(r"\b(mogemma_\w+)\s*\(", code)))
    if not names:
        raise KernelBuildError("mogemma.h declares no function: the library would export nothing.")
    return tuple(names)


def chosen_levels(target: Target, wish: str | None = None) -> tuple[CpuLevel, ...]:
    """The levels to build: all of the target, or those in `wish` (default: the variable MOGEMMA_CPU_LEVELS).

    `native` is the best level that this machine can run; it helps while developing, never in a wheel to publish.
    """
    wish = os.environ.get(LEVELS_VARIABLE, "") if wish is None else wish
    wanted = {name.strip() for name in wish.split(",")} - {""}
    known = {level.name: level for level in target.levels}
    if unknown := wanted - known.keys() - {"native"}:
        raise KernelBuildError(
            f"{LEVELS_VARIABLE} names {', '.join(sorted(unknown))}; {target.system} {target.arch} has native, "
            f"{', '.join(known)}."
        )
    if "native" in wanted:
        wanted.add(_native_level(target).name)
    return tuple(level for level in target.levels if level.name in wanted) or target.levels


def _native_level(target: Target) -> CpuLevel:
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set[str]()
    return next((level for level in reversed(target.levels) if level.needs <= flags), target.levels[0])


def build_kernels(
    mojo: Path,
    out: Path,
    *,
    cache: Path,
    target: Target,
    levels: Sequence[CpuLevel],
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Put into `out` a library for each level, mogemma.h, and levels.json, their list; remove other levels' libraries.

    A level whose sources, flags and compiler are unchanged comes from `cache`, so that only edits cost compile time.
    `report` is told of each library that is compiled.

    Raises:
        KernelBuildError: The compiler is missing, or it or the linker refused; the message holds what they said.
    """
    out.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)

    def build(level: CpuLevel) -> Path:
        name = target.library_name(level)
        kept = cache / f"{_fingerprint(mojo, target, level)}-{name}"
        if not kept.exists():
            report(f"compiling {name}")
            for stale in cache.glob(f"*-{name}"):
                stale.unlink(missing_ok=True)
            _compile(mojo, target, level, kept)
        return _place(kept, out / name)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        libraries = list(pool.map(build, levels))
    for other in set(out.glob("libmogemma-*")) - set(libraries):
        other.unlink()
    _place(header_of(mojo), out / "mogemma.h")
    _place(_write_list(cache, target, levels), out / "levels.json")
    return libraries


def _write_list(folder: Path, target: Target, levels: Sequence[CpuLevel]) -> Path:
    """levels.json: from the plainest level to the most capable, each with its library and what that needs."""
    rows = [{"name": x.name, "library": target.library_name(x), "needs": sorted(x.needs)} for x in levels]
    file = folder / "levels.json"
    file.write_text(json.dumps({"levels": rows}, indent=1) + "\n", encoding="utf-8")
    return file


def _fingerprint(mojo: Path, target: Target, level: CpuLevel) -> str:
    """A digest of everything that a library depends on, this file's way of building it included."""
    digest = hashlib.sha256(repr((MOJO_VERSION, target.triple, level.cpu, level.features)).encode())
    sources = {str(path.relative_to(mojo)): path for path in (header_of(mojo), *sorted((mojo / "src").rglob("*.mojo")))}
    for name, path in {"": Path(__file__), **sources}.items():
        digest.update(f"\0{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _place(source: Path, target: Path) -> Path:
    """Copy into place in one step: a running process keeps the library that it has loaded."""
    with tempfile.TemporaryDirectory(dir=target.parent) as temp:
        copy = shutil.copyfile(source, Path(temp, target.name))
        copy.replace(target)
    return target


def _compile(mojo: Path, target: Target, level: CpuLevel, library: Path) -> None:
    tools = _tools()
    with tempfile.TemporaryDirectory(dir=library.parent) as temp:
        folder = Path(temp)
        # `mojo build` insists on a `cc` in PATH, even for an object file, which it makes by itself.
        (folder / "cc").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        (folder / "cc").chmod(0o755)
        path = os.pathsep.join([temp, os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "PATH": path, "MODULAR_TELEMETRY_ENABLED": "false"}
        target_flags = ["--target-triple", target.triple, "--target-cpu", level.cpu]
        if level.features:
            target_flags += ["--target-features", level.features]
        # One thread and no assertions: the same bytes from every machine and folder.
        command = [tools["mojo"], "build", "--Werror", "--emit", "object", "-j", "1", "-D", "ASSERT=none", "-I", "src"]
        _run([*command, *target_flags, "-o", str(folder / "kernel.o"), "src/abi.mojo"], mojo, environment)
        linked = folder / target.library_name(level)
        link = _link_linux if target.system == "linux" else _link_macos
        link(tools["lld"], target, exported_names(header_of(mojo).read_text(encoding="utf-8")), linked)
        linked.replace(library)


def _link_linux(lld: str, target: Target, exports: Sequence[str], library: Path) -> None:
    folder = library.parent
    (folder / "exports").write_text(f"{{ global: {'; '.join(exports)}; local: *; }};\n", encoding="utf-8")
    (folder / "empty").touch()
    linker = [lld, "-flavor", "gnu", "-m", "elf_x86_64" if target.arch == "x86_64" else "aarch64linux", "-shared"]
    for name, symbols in LINUX_LIBRARIES.items():
        defined = [f"--defsym={symbol}=0" for symbol in symbols]
        _run([*linker, "-soname", name, "-o", name, *defined, "-b", "binary", "empty"], folder)
    flags = ["-Bsymbolic", "--gc-sections", "--build-id=none", "-s", "-z", "now", "-z", "defs", "--as-needed"]
    names = ["-soname", library.name, "--version-script=exports", "-o", library.name]
    _link([*linker, *flags, *names, "kernel.o", *LINUX_LIBRARIES], folder)


def _link_macos(lld: str, target: Target, exports: Sequence[str], library: Path) -> None:
    folder = library.parent
    (folder / "libSystem.tbd").write_text(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ x86_64-macos, arm64-macos ]\n"
        "install-name: '/usr/lib/libSystem.B.dylib'\n"
        f"exports:\n  - targets: [ x86_64-macos, arm64-macos ]\n    symbols: [ {', '.join(MACOS_SYMBOLS)} ]\n...\n",
        encoding="utf-8",
    )
    flags = ["-dylib", "-dead_strip", "-x", "-arch", target.arch, "-platform_version", "macos", "11.0", "11.0"]
    names = ["-install_name", f"@rpath/{library.name}", "-o", library.name]
    shown = [part for name in exports for part in ("-exported_symbol", f"_{name}")]
    _link([lld, "-flavor", "darwin", *flags, *names, *shown, "kernel.o", "libSystem.tbd"], folder)


def _link(command: Sequence[str], folder: Path) -> None:
    try:
        _run(command, folder)
    except KernelBuildError as error:
        if missing := sorted(set(re.findall(r"undefined symbol: (\S+)", str(error)))):
            raise KernelBuildError(
                f"{command[command.index('-o') + 1]} would need {', '.join(missing)}, which libc and libm do not have, or "
                "kernel_build.py does not list. KGEN_... is the Mojo runtime (alloc, List, String, Error, print), which is not shipped; "
                "__truncsfbf2 and the like are conversions that this CPU level has no instruction for."
            ) from error
        raise


def _tools() -> dict[str, str]:
    """The paths of `mojo` and `lld` as the installed mojo-compiler put them."""
    try:
        package = metadata.distribution("mojo-compiler")
    except metadata.PackageNotFoundError:
        raise KernelBuildError(
            f"{MOJO_REQUIREMENT} is not installed: build with isolation (the default), or `pip install` it first."
        ) from None
    if package.version != MOJO_VERSION:
        raise KernelBuildError(
            f"mojo-compiler {package.version} is installed; mogemma is built with {MOJO_REQUIREMENT}."
        )
    # The commands in the environment's bin/, which find their own libraries; the binaries behind them do not.
    commands = {
        file.name: str(package.locate_file(file))
        for file in package.files or ()
        if file.parts[-2] == "bin" and "modular" not in file.parts
    }
    return {name: commands[name] for name in ("mojo", "lld")}


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        tool = Path(command[0]).name
        raise KernelBuildError(f"{tool} failed with status {done.returncode}:\n$ {' '.join(command)}\n{done.stdout}")
