"""Files that are there as a whole or not at all, their digests, and locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ReleaseError


def write_whole(file: Path, content: str | bytes) -> None:
    """Put content into a file in one step; what was there stays until then.

    Raises:
        ReleaseError: The disk is full, or the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ReleaseError(f"{file} cannot be written ({error.strerror}). It is as it was before.") from error


def move_whole(source: Path, file: Path) -> None:
    """Put one file of a disk in another's place in one step.

    Raises:
        ReleaseError: The folder cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as stream:
            os.fsync(stream.fileno())
        source.replace(file)
    except OSError as error:
        raise ReleaseError(f"{file} cannot be written ({error.strerror}). It is as it was before.") from error


def write_json(file: Path, value: Any) -> None:
    write_whole(file, json.dumps(value, indent=1) + "\n")


def read_json(file: Path) -> Any:
    """The document in a file.

    Raises:
        ReleaseError: It is missing, or no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReleaseError(f"{file} is missing.") from None
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{file} is damaged: it is no JSON ({error}).") from None


@contextmanager
def locked(file: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock for the block: the file stays, the lock goes with the process, however that ends.

    Raises:
        ReleaseError: Another process holds it: `otherwise`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ReleaseError(otherwise) from None
        yield


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
