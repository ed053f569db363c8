"""Reads what a Linux library exports, calls and needs; see `man 5 elf`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DYNAMIC, _SYMBOLS = 6, 11
_NEEDED, _RPATH, _RUNPATH = 1, 15, 29


@dataclass(frozen=True)
class Library:
    """Names in a library's dynamic sections; `search_paths` are its RPATH and RUNPATH."""

    exported: set[str]
    undefined: set[str]
    needed: set[str]
    search_paths: set[str]


def read(path: Path) -> Library:
    content = path.read_bytes()
    assert content[:6] == b"\x7fELF\x02\x01", "64-bit, little-endian"
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    # Of a section header: type, offset, size in the file, and which section holds its strings.
    sections = [struct.unpack_from("<4xI16xQQI", content, table + size * i) for i in range(count)]

    def entries(kind: int, form: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The entries of the sections of a kind, each with the string that its first number may stand for."""
        for found, offset, n_bytes, link in sections:
            if found == kind:
                strings = sections[link][1]
                for entry in struct.iter_unpack(form, content[offset : offset + n_bytes]):
                    at = strings + (entry[0] if kind == _SYMBOLS else entry[1])
                    yield content[at : content.find(b"\0", at)].decode(errors="replace"), entry

    symbols = [(name, entry[3]) for name, entry in entries(_SYMBOLS, "<IBBHQQ") if name]
    dynamic = [(name, entry[0]) for name, entry in entries(_DYNAMIC, "<QQ")]
    return Library(
        exported={name for name, section in symbols if section != 0},
        undefined={name for name, section in symbols if section == 0},
        needed={name for name, tag in dynamic if tag == _NEEDED},
        search_paths={name for name, tag in dynamic if tag in {_RPATH, _RUNPATH}},
    )
