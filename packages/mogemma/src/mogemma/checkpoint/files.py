"""Files of strangers, opened safely: regular files only, mapped read-only, side files bounded in size."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import warnings
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from ..errors import ModelClosedError, ModelFormatError, ModelNotFoundError, OutOfMemoryError

if TYPE_CHECKING:
    from pathlib import Path

# A FIFO would block open() until somebody writes to it; with O_NONBLOCK it opens, and is then seen for what it is.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def stat_path(path: Path) -> os.stat_result | None:
    """What lies at `path`, links followed; None when nothing does.

    Raises:
        ModelNotFoundError: It cannot be looked at (permission, a loop of links, no possible file name).
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        _refuse(path, error)


def is_file(path: Path) -> bool:
    """Whether something other than a folder lies at `path`; what it is will be checked when it is opened."""
    status = stat_path(path)
    return status is not None and not stat.S_ISDIR(status.st_mode)


def is_folder(path: Path) -> bool:
    status = stat_path(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def list_folder(folder: Path) -> list[str]:
    """Names of what lies in a folder, sorted; ModelNotFoundError when this user may not look."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        _refuse(folder, error)


def read_small_file(path: Path, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        ModelNotFoundError: There is no such file, or this user may not read it.
        ModelFormatError: It is no regular file, or longer than `limit`.
    """
    descriptor, n_bytes = _open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        if n_bytes > limit:
            raise ModelFormatError(
                f"{path} has {n_bytes} bytes, and a file of this name at most {limit}. It is not part of a model."
            )
        return _read(path, file, n_bytes)


def read_beginning(path: Path, n_bytes: int) -> bytes:
    """The first `n_bytes` of a regular file, or fewer where it is shorter; errors as in `read_small_file`."""
    descriptor, _ = _open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        return _read(path, file, n_bytes)


class MappedFile:
    """One regular file, mapped read-only.

    The size is that of the moment of opening. A file that is cut short while it is mapped ends the process with SIGBUS
    when the missing part is read, as with any memory-mapped file: replace model files by renaming, not in place.

    Attributes:
        view: All bytes of the file. Slices of it must be released before the file can be unmapped.
        n_bytes: Length of the file, at least 1.
    """

    __slots__ = ("_mapping", "n_bytes", "path", "view")

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor, self.n_bytes = _open_regular(path)
        try:
            self._mapping = _map(path, descriptor, self.n_bytes)
        finally:
            os.close(descriptor)
        self.view = memoryview(self._mapping)

    @property
    def mapping(self) -> mmap.mmap:
        """The mapping itself, for readers that take numbers or copies out of it and keep no view.

        Raises:
            ModelClosedError: The file was closed.
        """
        if self._mapping.closed:
            raise ModelClosedError(f"{self.path} was closed. Open the model again.")
        return self._mapping

    def forget(self) -> None:
        """Give back the memory of what was read so far; what is read again comes from the system's file cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> bool:
        """Unmap the file; False when views of it are still in use, and then it goes with the last of them."""
        try:
            self.view.release()
            self._mapping.close()
        except BufferError:
            return False
        return True


def close_all(files: list[MappedFile], *, warn: bool = True) -> None:
    """Close each file; a ResourceWarning names the ones that stay mapped because somebody still holds a view."""
    held = [str(file.path) for file in files if not file.close()]
    if held and warn:
        warnings.warn(
            f"{', '.join(held)} stays mapped until the last view of its tensors is gone. Release buffers and arrays "
            "made from Tensor.data before closing the checkpoint.",
            ResourceWarning,
            stacklevel=3,
        )


def _open_regular(path: Path) -> tuple[int, int]:
    """File descriptor and size of a regular file; the descriptor is the caller's to close."""
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        _refuse(path, error)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status.st_size
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise ModelFormatError(f"{path} is a folder where a file was expected.")
    raise ModelFormatError(
        f"{path} is a device, a pipe or a socket. A model is read from a regular file: copy it to one."
    )


def _map(path: Path, descriptor: int, n_bytes: int) -> mmap.mmap:
    if n_bytes == 0:
        raise ModelFormatError(f"{path} is empty: the download did not finish. Download it again.")
    try:
        return mmap.mmap(descriptor, n_bytes, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise ModelFormatError(f"{path} changed while it was being opened. Wait until it is written.") from error
    except OSError as error:
        if error.errno != errno.ENOMEM:
            _refuse(path, error)
        raise OutOfMemoryError(
            f"{path}: the system cannot map {n_bytes} bytes. Raise the address space limit (ulimit -v), or use a "
            "smaller file."
        ) from error


def _read(path: Path, file: BinaryIO, n_bytes: int) -> bytes:
    try:
        return file.read(n_bytes)
    except OSError as error:
        _refuse(path, error)


def _refuse(path: Path, error: OSError | ValueError) -> NoReturn:
    """Turn the system's refusal to open or read `path` into a sentence."""
    if isinstance(error, ValueError):
        raise ModelNotFoundError(f"{str(path)!r} cannot be the name of a file: {error}.") from error
    if error.errno == errno.ENOENT:
        raise ModelNotFoundError(f"There is no file {path}.") from error
    advice = " Make it readable for this user." if error.errno in {errno.EACCES, errno.EPERM} else ""
    raise ModelNotFoundError(f"{path} cannot be read: {error.strerror or error}.{advice}") from error
