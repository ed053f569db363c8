"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well; otherwise what was there stays as it was.

    It is made at once, so that an output that cannot be written is found before the work. What is no regular file (a device,
    a pipe) is written directly.
    """
    target = Path(os.path.realpath(path))  # a link stays, and what it leads to is replaced
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        opened = unfinished.open("xb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # the name that was given
    try:
        with opened as file:
            yield file
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
