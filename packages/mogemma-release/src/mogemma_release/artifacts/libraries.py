"""What the kernels in a wheel must be for a system's loader: LIEF reads their headers, this file says what is right."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator, Sequence

import lief

from ..matrix import Platform

lief.logging.disable()  # it would write about damaged files; what is wrong is said by the checks

_ELF_MACHINES = {"x86_64": lief.ELF.ARCH.X86_64, "aarch64": lief.ELF.ARCH.AARCH64}
_MACHO_MACHINES = {"x86_64": lief.MachO.Header.CPU_TYPE.X86_64, "arm64": lief.MachO.Header.CPU_TYPE.ARM64}
_LINUX_MAY_NEED = {"libc.so.6", "libm.so.6"}
_MACOS_MAY_NEED = {"/usr/lib/libSystem.B.dylib"}
_OLDEST_MACOS = [11, 0, 0]

_SUPER_BLOB, _CODE_DIRECTORY, _SHA256 = 0xFADE0CC0, 0xFADE0C02, 2


def library_problems(content: bytes, name: str, platform: Platform, functions: Sequence[str]) -> Iterator[str]:
    """What is wrong with a kernel that must export just these functions."""
    if platform.system == "linux":
        problems = _linux_problems(content, platform, set(functions))
    else:
        problems = _macos_problems(content, name, platform, set(functions))
    yield from (f"{name} {problem}" for problem in problems)


def _linux_problems(content: bytes, platform: Platform, functions: set[str]) -> Iterator[str]:
    library = lief.ELF.parse(io.BytesIO(content))
    if not isinstance(library, lief.ELF.Binary):
        yield "is no ELF file"
        return
    tags = lief.ELF.DynamicEntry.TAG
    if library.header.machine_type != _ELF_MACHINES[platform.arch]:
        yield f"is for {library.header.machine_type.name}"
    if library.header.file_type != lief.ELF.Header.FILE_TYPE.DYN:
        yield "is no shared library"
    if foreign := sorted(set(library.libraries) - _LINUX_MAY_NEED):
        yield f"needs {', '.join(map(str, foreign))}"
    if library.has(tags.RPATH) or library.has(tags.RUNPATH):
        yield "has a search path of its own"
    if versioned := sorted(str(symbol.name) for symbol in library.imported_symbols if _is_versioned(symbol)):
        yield f"needs versions of {', '.join(versioned)}"
    if any(segment.type == lief.ELF.Segment.TYPE.GNU_STACK and int(segment.flags) & 1 for segment in library.segments):
        yield "wants an executable stack"
    yield from _export_problems({str(symbol.name) for symbol in library.exported_symbols}, functions)


def _is_versioned(symbol: lief.ELF.Symbol) -> bool:
    return symbol.has_version and symbol.symbol_version is not None and symbol.symbol_version.has_auxiliary_version


def _macos_problems(content: bytes, name: str, platform: Platform, functions: set[str]) -> Iterator[str]:
    fat = lief.MachO.parse(io.BytesIO(content))
    if fat is None or len(fat) != 1:
        yield "is no Mach-O file of one architecture"
        return
    library = fat.at(0)
    if library is None or library.header.cpu_type != _MACHO_MACHINES[platform.arch]:
        yield f"is for {library.header.cpu_type.name if library else 'no processor'}"
        return
    if library.header.file_type != lief.MachO.Header.FILE_TYPE.DYLIB:
        yield "is no dynamic library"
    loaded = [x for x in library.libraries if x.command == lief.MachO.LoadCommand.TYPE.LOAD_DYLIB]
    if foreign := sorted({str(x.name) for x in loaded} - _MACOS_MAY_NEED):
        yield f"needs {', '.join(foreign)}"
    own = [x.name for x in library.libraries if x.command == lief.MachO.LoadCommand.TYPE.ID_DYLIB]
    if own != [f"@rpath/{name}"]:
        yield f"calls itself {own}"
    if library.has_rpath:
        yield "has a search path of its own"
    version = library.build_version
    if version is None or version.platform != lief.MachO.BuildVersion.PLATFORMS.MACOS:
        yield "does not say that it is for macOS"
    elif list(version.minos) > _OLDEST_MACOS:
        yield f"needs macOS {'.'.join(map(str, version.minos))}"
    yield from _export_problems({str(x.name).removeprefix("_") for x in library.exported_symbols}, functions)
    if platform.arch == "arm64":
        signature = library.code_signature
        yield from signature_problems(content, signature.data_offset if signature else None)


def _export_problems(exported: set[str], functions: set[str]) -> Iterator[str]:
    if missing := sorted(functions - exported):
        yield f"lacks {', '.join(missing)}"
    if foreign := sorted(exported - functions):
        yield f"exports {', '.join(foreign)} too"


def signature_problems(content: bytes, offset: int | None) -> Iterator[str]:
    """What is wrong with a code signature that begins at `offset`: macOS ends a process on arm64 that loads unsigned code.

    The format is that of <kern/cs_blobs.h> of XNU: big-endian, a digest of each page.
    """
    if offset is None:
        yield "is not signed, which macOS on arm64 wants"
        return
    try:
        magic, _, count = struct.unpack_from(">III", content, offset)
        blobs = [struct.unpack_from(">II", content, offset + 12 + 8 * i)[1] for i in range(min(count, 16))]
        directories = [
            offset + at for at in blobs if struct.unpack_from(">I", content, offset + at)[0] == _CODE_DIRECTORY
        ]
        if magic != _SUPER_BLOB or not directories:
            yield "has a signature without a code directory"
            return
        at = directories[0]
        hash_offset, _, _, n_slots, limit, size, kind, _, page_bits = struct.unpack_from(">IIIIIBBBB", content, at + 16)
    except struct.error:
        yield "has a signature that is cut off"
        return
    if kind != _SHA256 or size != 32 or not 12 <= page_bits <= 16 or n_slots != -(-limit // (1 << page_bits)):
        yield "has a signature of a kind that is not known here"
        return
    for page in range(n_slots):
        signed = content[at + hash_offset + size * page :][:size]
        code = content[page << page_bits : min((page + 1) << page_bits, limit)]
        if hashlib.sha256(code).digest() != signed:
            yield f"was changed after it had been signed (page {page})"
            return
    if limit < offset:
        yield "is signed only in part"
