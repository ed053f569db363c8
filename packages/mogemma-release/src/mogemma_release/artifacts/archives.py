"""Reads sdists and wheels that may be damaged, or made to do damage: nothing is unpacked, and sizes are looked at first."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import ReleaseError

MOST_BYTES = 64 << 20
MOST_ENTRIES = 10_000
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,  # zipfile, of a compression it does not know
    RuntimeError,  # zipfile, of an entry that is encrypted
)


@dataclass(frozen=True)
class Archive:
    """What is in a file.

    Attributes:
        contents: By the entries' names, in the archive's order.
        times: What the entries say of their time, once each: a zip's date and time, or a tar's seconds since 1970.
        modes: What they say of their owners and modes, once each, as a person reads it.
    """

    file: Path
    contents: Mapping[str, bytes]
    times: frozenset[tuple[int, ...]]
    modes: frozenset[str]

    def text(self, name: str) -> str:
        """A file of it; empty if it is not there."""
        return self.contents.get(name, b"").decode("utf-8", "replace")


def read_wheel(file: Path) -> Archive:
    """All of a zip file.

    Raises:
        ReleaseError: It is damaged, or not what a wheel would be.
    """
    return _guarded(file, _read_zip)


def read_sdist(file: Path) -> Archive:
    """All of a .tar.gz; raises like `read_wheel`."""
    return _guarded(file, _read_tar)


def _guarded(file: Path, read: Callable[[Path], Archive]) -> Archive:
    try:
        return read(file)
    except _DAMAGE as error:
        raise ReleaseError(f"{file.name} is damaged or no archive of its kind ({error}). Build it anew.") from None
    except OSError as error:
        raise ReleaseError(f"{file.name} cannot be read ({error.strerror or error}).") from None


def _read_zip(file: Path) -> Archive:
    with zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        _check_names_and_sizes(file, [entry.filename for entry in entries], sum(entry.file_size for entry in entries))
        contents = {entry.filename: archive.read(entry) for entry in entries}
    modes = frozenset(f"{entry.external_attr >> 16:o}" for entry in entries)
    return Archive(file, contents, frozenset(entry.date_time for entry in entries), modes)


def _read_tar(file: Path) -> Archive:
    with tarfile.open(file, "r:gz") as archive:
        entries: list[tarfile.TarInfo] = []
        n_bytes = 0
        for entry in archive:  # one by one, so that a bomb is seen before it is all read
            entries.append(entry)
            n_bytes += entry.size
            _check_names_and_sizes(file, [entry.name], n_bytes, len(entries))
            if not entry.isfile() and not entry.isdir():
                raise ReleaseError(f"{file.name} holds {entry.name}, which is a link or a device.")
        entries = [entry for entry in entries if entry.isfile()]
        _check_names_and_sizes(file, [entry.name for entry in entries], n_bytes)
        contents = {}
        for entry in entries:
            stream = archive.extractfile(entry)
            assert stream is not None
            contents[entry.name] = stream.read()
    modes = frozenset(f"{entry.mode:o} {entry.uid}:{entry.gid} {entry.uname}:{entry.gname}" for entry in entries)
    return Archive(file, contents, frozenset((int(entry.mtime),) for entry in entries), modes)


def _check_names_and_sizes(file: Path, names: list[str], n_bytes: int, n_entries: int = 0) -> None:
    if n_bytes > MOST_BYTES or max(n_entries, len(names)) > MOST_ENTRIES:
        raise ReleaseError(f"{file.name} would unpack to more than {MOST_BYTES >> 20} MiB or {MOST_ENTRIES} files.")
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ReleaseError(f"{file.name} holds {name!r}, which would be written outside its folder.")
    if len(set(names)) != len(names):
        raise ReleaseError(f"{file.name} holds a name twice.")
