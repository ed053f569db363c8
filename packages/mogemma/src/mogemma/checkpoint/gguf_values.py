"""The values of a GGUF header: numbers, strings and arrays, none read before the bytes for it are known to be there."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError
from .strings import StringArray, index_strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .files import MappedFile

MAX_HEADER_BYTES = 64 << 20
"""Nothing before the tensor data is read beyond this, so it bounds time and memory. Gemma 4's header has 16 MB."""

_MAX_NAME_BYTES = 255  # ggml itself allows 64 for tensors
_MAX_STRINGS = 1 << 21  # in all arrays together: Gemma 4 has 262144 tokens and 514906 merges

_U32 = Struct("<I")
_U64 = Struct("<Q")

# By GGUF's number of the value type.
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {
    number: Struct("<" + code)
    for number, code in {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}.items()
}


class Cursor:
    """A position in the header of a file that only moves over bytes that are there.

    Attributes:
        at: Position in the file.
        end: Where the header must have ended.
        context: What is being read, for the sentence of an error.
    """

    __slots__ = ("_buffer", "_n_strings", "at", "context", "end", "file", "path")

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.path = file.path
        self._buffer = file.mapping
        self._n_strings = 0
        self.at = 0
        self.end = min(file.n_bytes, MAX_HEADER_BYTES)
        self.context = "header"

    def damaged(self, what: str) -> ModelFormatError:
        return ModelFormatError(f"{self.path} is damaged: {self.context}: {what}. Download it again.")

    def skip(self, n_bytes: int, field: str) -> int:
        """Move over `n_bytes` and say where they begin.

        Raises:
            ModelFormatError: So many do not remain.
        """
        start = self.at
        if n_bytes > self.end - start:
            raise self._too_long(n_bytes, field)
        self.at = start + n_bytes
        return start

    def bytes(self, n_bytes: int, field: str) -> bytes:
        start = self.skip(n_bytes, field)
        return self._buffer[start : start + n_bytes]

    def u32(self, field: str) -> int:
        return int(_U32.unpack_from(self._buffer, self.skip(4, field))[0])

    def u64(self, field: str) -> int:
        return int(_U64.unpack_from(self._buffer, self.skip(8, field))[0])

    def unpack(self, layout: Struct, field: str) -> tuple[Any, ...]:
        return layout.unpack_from(self._buffer, self.skip(layout.size, field))

    def text(self) -> str:
        string = self.bytes(self.u64("length of a string"), "string")
        try:
            return string.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"the string {string[:60]!r} is not UTF-8") from None

    def name(self) -> str:
        """A key or the name of a tensor."""
        n_bytes = self.u64("length of a name")
        if not 0 < n_bytes <= _MAX_NAME_BYTES:
            raise self.damaged(f"its name has {n_bytes} bytes, not 1 to {_MAX_NAME_BYTES}")
        string = self.bytes(n_bytes, "name")
        try:
            return string.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"its name {string[:60]!r} is not UTF-8") from None

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """A copy of `count` numbers, read-only."""
        start = self.skip(count * dtype.itemsize, f"array of {count} numbers")
        array: NDArray[Any] = np.frombuffer(self._buffer, dtype, count, start).copy()
        array.flags.writeable = False
        return array

    def strings(self, count: int, field: str) -> StringArray:
        """`count` strings, indexed but not yet decoded."""
        if count > (self.end - self.at) // _U64.size:
            raise self._too_long(count * _U64.size, f"array of {count} strings")
        self._n_strings += count
        if self._n_strings > _MAX_STRINGS:
            raise UnsupportedModelError(
                f"{self.path}: {self.context}: more than {_MAX_STRINGS} strings in the file's arrays."
            )
        starts = index_strings(self._buffer, self.at, count, self.end)
        if len(starts) != count + 1:
            raise self.damaged(f"its {count} strings run past the end of the file")
        array = StringArray(self.file, field, self.at, starts)
        self.at += int(starts[-1])
        return array

    def _too_long(self, n_bytes: int, field: str) -> ModelFormatError:
        if self.end == MAX_HEADER_BYTES:
            return self.damaged(
                f"{field}: {n_bytes} bytes lead out of the header, which has at most {MAX_HEADER_BYTES}"
            )
        return ModelFormatError(
            f"{self.path}: {self.context}: {field}: {n_bytes} bytes are needed at byte {self.at}, the file has "
            f"{self.end}. It is cut short or damaged: download it again."
        )


def read_value(cursor: Cursor, key: str) -> object:
    """Read a value with its type before it: a number, bool, str, numpy array or `StringArray`."""
    number = cursor.u32("type of the value")
    if number == _STRING:
        return cursor.text()
    if number == _BOOL:
        return _bool(cursor)
    if number == _ARRAY:
        return _array(cursor, key)
    (value,) = cursor.unpack(_layout(cursor, number), "number")
    return value


def _bool(cursor: Cursor) -> bool:
    value = cursor.bytes(1, "bool")[0]
    if value > 1:
        raise cursor.damaged(f"a bool is {value}, not 0 or 1")
    return value == 1


def _array(cursor: Cursor, key: str) -> NDArray[Any] | StringArray:
    number = cursor.u32("type of the array")
    count = cursor.u64("length of the array")
    if number == _STRING:
        return cursor.strings(count, key)
    if number == _ARRAY:
        raise UnsupportedModelError(
            f"{cursor.path}: {cursor.context}: arrays of arrays are not read, and no Gemma has one."
        )
    if number == _BOOL:
        flags = cursor.numbers(np.dtype(np.uint8), count)
        if flags.max(initial=0) > 1:
            raise cursor.damaged("a bool is neither 0 nor 1")
        return flags.view(np.bool_)
    return cursor.numbers(np.dtype(_layout(cursor, number).format), count)


def _layout(cursor: Cursor, number: int) -> Struct:
    layout = _SCALARS.get(number)
    if layout is None:
        raise cursor.damaged(f"there is no value type {number}")
    return layout
