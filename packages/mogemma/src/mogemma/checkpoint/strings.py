"""Arrays of strings in a GGUF file (the vocabulary, the merges): indexed when the file opens, decoded when wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, overload

import numpy as np

from ..errors import ModelFormatError

if TYPE_CHECKING:
    import mmap

    from numpy.typing import NDArray

    from .files import MappedFile

_LENGTH = Struct("<Q")
_WINDOW_BYTES = 1 << 17
_WORTH_A_WINDOW = 1024  # strings found together; fewer are found faster one by one
_STEPS = 2048  # strings found one by one before a window is tried again, doubled after each that was not worth it
_MOST_STEPS = 1 << 16


class StringArray(Sequence[str]):
    """Strings that stay in the mapped file; item i is decoded each time it is asked for.

    Tokens are bytes and need not be whole characters, so each way out has a form in bytes and a form in text. Usable as
    long as the checkpoint is open, then ModelClosedError.
    """

    __slots__ = ("_field", "_file", "_first", "_starts")

    def __init__(self, file: MappedFile, field: str, first: int, starts: NDArray[np.uint32]) -> None:
        """`starts`: positions of the length fields, counted from byte `first`, and the end of the last string."""
        self._file = file
        self._field = field
        self._first = first
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __repr__(self) -> str:
        return f"<{len(self)} strings of {self._field}>"

    def bytes_at(self, index: int) -> bytes:
        """The bytes of one string; IndexError outside the array, negative indices count from the end."""
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"{self._field} has {len(self)} strings")
        start = self._first + int(self._starts[index]) + _LENGTH.size
        return self._file.mapping[start : self._first + int(self._starts[index + 1])]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Text of one string, or of several; ModelFormatError where the bytes are not UTF-8."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._decode(self.bytes_at(index))

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_list())

    def to_bytes_list(self) -> list[bytes]:
        """All strings as bytes, at once: 262144 tokens take 40 to 60 ms."""
        blob = self._file.mapping[self._first : self._first + int(self._starts[-1])]
        starts = (self._starts[:-1] + np.uint32(_LENGTH.size)).tolist()
        return [blob[start:end] for start, end in zip(starts, self._starts[1:].tolist(), strict=True)]

    def to_list(self) -> list[str]:
        """All strings as text, at once; ModelFormatError where one is not UTF-8."""
        strings = self.to_bytes_list()
        try:
            return [string.decode() for string in strings]
        except UnicodeDecodeError:
            return [self._decode(string) for string in strings]  # says which one

    def _decode(self, string: bytes) -> str:
        try:
            return string.decode()
        except UnicodeDecodeError as error:
            raise ModelFormatError(
                f"{self._file.path}: {self._field} has the string {string[:60]!r}, which is not UTF-8. "
                "The file is damaged: download it again."
            ) from error


def index_strings(buffer: mmap.mmap, first: int, count: int, end: int) -> NDArray[np.uint32]:
    """Find where each of `count` strings begins: each is a u64 length, then that many bytes.

    A string's length says where the next one begins, so they form a chain that has to be followed link by link, 26 ms
    for 262144 tokens in Python. But a length below 256 shows as a byte followed by seven zeros, and numpy finds all of
    those at once; where each find lies exactly where the one before it ends, the finds are the chain. That takes 5 ms.
    Whatever does not fit is followed link by link.

    Returns:
        The starts, counted from `first`, and the end of the last string, 4 bytes each; fewer than count + 1 of them
        when the strings run past `end`, which is at most 4 GiB further.
    """
    runs: list[NDArray[np.uint32]] = []
    at, left, steps = first, count, _STEPS
    while left:
        starts, at = _find_run(buffer, at, left, end)
        if starts is None:
            starts, at = _follow(buffer, at, min(left, steps), end)
            steps = min(2 * steps, _MOST_STEPS)
        runs.append((starts - first).astype(np.uint32))
        left -= len(starts)
        if at > end:
            break
    complete = left == 0 and at <= end
    return np.concatenate([*runs, np.array([at - first] if complete else [], np.uint32)])


def _find_run(buffer: mmap.mmap, at: int, left: int, end: int) -> tuple[NDArray[np.int64] | None, int]:
    """Find many strings shorter than 256 bytes at once: their starts, and where the last one ends.

    None when too few of them follow each other to be worth it. `at` is at most `end`, but the last string may end past it.
    """
    if left < _WORTH_A_WINDOW:
        return None, at
    window = np.frombuffer(buffer, np.uint8, min(_WINDOW_BYTES, end - at), at)
    zero = window == 0
    two = zero[:-1] & zero[1:]
    four = two[:-2] & two[2:]
    seven = four[:-3] & four[3:]
    lengths_at = np.flatnonzero(seven[1:])
    if len(lengths_at) < _WORTH_A_WINDOW or lengths_at[0] != 0:
        return None, at
    ends = lengths_at + (_LENGTH.size + window[lengths_at].astype(np.int64))
    breaks = np.append(lengths_at[1:] != ends[:-1], True)
    n_chained = min(left, int(np.argmax(breaks)) + 1)
    if n_chained < _WORTH_A_WINDOW:
        return None, at
    return lengths_at[:n_chained] + at, at + int(ends[n_chained - 1])


def _follow(buffer: mmap.mmap, at: int, count: int, end: int) -> tuple[NDArray[np.int64], int]:
    """Follow the chain link by link: the starts, and where the last string ends; past `end` when the chain leaves it."""
    starts: list[int] = []
    # A hostile file can send two million strings through this loop: nothing in it is looked up twice.
    append, unpack, header, last = starts.append, _LENGTH.unpack_from, _LENGTH.size, end - _LENGTH.size
    for _ in range(count):
        if at > last:
            at = end + 1
            break
        append(at)
        at += header + unpack(buffer, at)[0]
    return np.array(starts, np.int64), at
