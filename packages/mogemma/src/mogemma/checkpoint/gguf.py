"""GGUF, versions 2 and 3: magic, counts, keys and values, tensor descriptions, padding, tensor data.

Layout and names as in the format's description (ggml-org/ggml, docs/gguf.md). All numbers are little endian.
"""

from __future__ import annotations

from math import prod
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ModelFormatError, UnsupportedModelError
from .base import Checkpoint
from .files import MappedFile, close_all
from .gguf_values import Cursor, read_value
from .impostors import N_BYTES, not_a_model
from .names import quote
from .tensor import Tensor, TensorType

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"GGUF"

_MAX_KEYS = 1 << 14
_MAX_TENSORS = 1 << 14  # the largest Gemma has about 1500
_MAX_DIMS = 4
_MAX_WEIGHTS = 1 << 63
_MAX_ALIGNMENT = 1 << 16
_DEFAULT_ALIGNMENT = 32

# A tensor's dimensions, type and offset, by the number of dimensions.
_PLACES = [Struct(f"<{n_dims}QIQ") for n_dims in range(_MAX_DIMS + 1)]

# The least that a key with its value, and that a tensor's description, take in the file.
_MIN_KEY_BYTES = 8 + 1 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8

_TYPES: dict[int, TensorType] = {int(kind): kind for kind in TensorType}
_FOREIGN_TYPES = {
    15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16",
    26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
}  # fmt: skip


class _Description(NamedTuple):
    """Where a tensor lies: `start` counts from the beginning of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    start: int
    n_bytes: int


def read_gguf(path: Path, *, given: Path | None = None, folder: Path | None = None) -> Checkpoint:
    """Map a GGUF file and describe what is in it; no weight is read.

    Args:
        path: The file.
        given: What the user called it, if that is a folder.
        folder: Where its side files lie, if it has any.

    Raises:
        ModelFormatError: The file is damaged or cut short; the message names the field.
        UnsupportedModelError: A version, byte order, split file or tensor type that is not read here.
        ModelNotFoundError: There is no such file, or this user may not read it.
    """
    file = MappedFile(path)
    try:
        cursor = Cursor(file)
        n_tensors, n_keys = _read_counts(cursor)
        metadata = _read_metadata(cursor, n_keys)
        descriptions = _read_descriptions(cursor, n_tensors, alignment := _alignment(cursor, metadata))
        data_start = -(-cursor.at // alignment) * alignment
        _check_places(path, descriptions, file.n_bytes - data_start)
    except BaseException:
        close_all([file], warn=False)
        raise
    tensors = {
        tensor.name: Tensor(tensor.name, tensor.shape, tensor.type, _slice(file, data_start, tensor), path)
        for tensor in descriptions
    }
    return Checkpoint(given or path, "gguf", mapped=[file], tensors=tensors, metadata=metadata, folder=folder)


def _slice(file: MappedFile, data_start: int, tensor: _Description) -> memoryview:
    start = data_start + tensor.start
    return file.view[start : start + tensor.n_bytes]


def _read_counts(cursor: Cursor) -> tuple[int, int]:
    """Read magic, version, number of tensors and number of keys."""
    path = cursor.path
    beginning = cursor.file.mapping[:N_BYTES]
    if not beginning.startswith(MAGIC):
        raise not_a_model(path, beginning)
    cursor.skip(len(MAGIC), "magic")
    version = cursor.u32("version")
    if version != 0 and version & 0xFFFF == 0:
        raise UnsupportedModelError(f"{path} is written for big-endian machines. Use the usual little-endian file.")
    if version not in {2, 3}:
        advice = "Convert the model again with a current converter." if version < 2 else "Update mogemma."
        raise UnsupportedModelError(f"{path} is GGUF version {version}; versions 2 and 3 are read. {advice}")
    n_tensors = cursor.u64("number of tensors")
    n_keys = cursor.u64("number of keys")
    remaining = cursor.end - cursor.at
    most_tensors = min(_MAX_TENSORS, remaining // _MIN_TENSOR_BYTES)
    most_keys = min(_MAX_KEYS, remaining // _MIN_KEY_BYTES)
    if n_tensors > most_tensors or n_keys > most_keys:
        raise cursor.damaged(
            f"it claims {n_tensors} tensors and {n_keys} keys; in {remaining} bytes at most {most_tensors} or {most_keys} "
            "are possible"
        )
    return n_tensors, n_keys


def _read_metadata(cursor: Cursor, n_keys: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(n_keys):
        cursor.context = f"key {index}"
        key = cursor.name()
        cursor.context = f"value of {quote(key)}"
        if key in metadata:
            raise cursor.damaged("that key is there twice")
        metadata[key] = read_value(cursor, key)
    n_parts = metadata.get("split.count", 1)
    if isinstance(n_parts, int) and n_parts > 1:
        raise UnsupportedModelError(
            f"{cursor.path} is one of {n_parts} parts of a split GGUF. Join them first: llama-gguf-split --merge."
        )
    if str(metadata.get("general.type")) == "adapter":
        raise UnsupportedModelError(
            f"{cursor.path} is an adapter (LoRA), which changes a model, and no model. Merge the two (llama-export-lora) "
            "and give that file."
        )
    return metadata


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    """Bytes that every tensor's place is a multiple of."""
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    # bool is an int in Python, but no alignment
    is_sound = isinstance(alignment, int) and not isinstance(alignment, bool) and 8 <= alignment <= _MAX_ALIGNMENT
    if not is_sound or alignment & (alignment - 1):
        cursor.context = "value of 'general.alignment'"
        raise cursor.damaged(f"it is {alignment!r:.40}, not a power of two from 8 to {_MAX_ALIGNMENT}")
    return int(alignment)


def _read_descriptions(cursor: Cursor, n_tensors: int, alignment: int) -> list[_Description]:
    descriptions: list[_Description] = []
    names: set[str] = set()
    for index in range(n_tensors):
        cursor.context = f"tensor {index}"
        name = cursor.name()
        cursor.context = f"tensor {quote(name)}"
        if name in names:
            raise cursor.damaged("there are two tensors of that name")
        names.add(name)
        description = _read_description(cursor, name)
        if description.start % alignment:
            raise cursor.damaged(f"its place {description.start} is not a multiple of the alignment {alignment}")
        descriptions.append(description)
    return descriptions


def _read_description(cursor: Cursor, name: str) -> _Description:
    n_dims = cursor.u32("number of dimensions")
    if not 1 <= n_dims <= _MAX_DIMS:
        raise cursor.damaged(f"it has {n_dims} dimensions, not 1 to {_MAX_DIMS}")
    *dims, number, start = cursor.unpack(_PLACES[n_dims], "dimensions, type and offset")
    n_weights = prod(dims)
    if not 0 < n_weights < _MAX_WEIGHTS:
        raise cursor.damaged(f"its dimensions {dims} are impossible")
    kind = _TYPES.get(number)
    if kind is None:
        raise UnsupportedModelError(
            f"{cursor.path}: tensor {quote(name)} has type {_FOREIGN_TYPES.get(number, 'number')} {number}, which this "
            "version does not run. Use a file quantised as Q4_K_M, Q8_0 or another common type."
        )
    if dims[0] % kind.block_weights:
        raise cursor.damaged(f"its rows of {dims[0]} weights are not whole {kind.name} blocks of {kind.block_weights}")
    # GGUF counts the dimensions from the innermost.
    return _Description(name, tuple(reversed(dims)), kind, start, kind.n_bytes(n_weights))


def _check_places(path: Path, descriptions: list[_Description], n_data_bytes: int) -> None:
    """Every tensor lies inside the file, and no two share a byte."""
    end, previous = 0, ""
    for tensor in sorted(descriptions, key=lambda tensor: tensor.start):
        if tensor.start < end:
            raise ModelFormatError(f"{path} is damaged: tensors {quote(previous)} and {quote(tensor.name)} overlap.")
        end, previous = tensor.start + tensor.n_bytes, tensor.name
        if end > n_data_bytes:
            raise ModelFormatError(
                f"{path}: tensor {quote(tensor.name)} ends {end - n_data_bytes} bytes past the end of the file. The "
                "file is cut short or damaged: download it again."
            )
