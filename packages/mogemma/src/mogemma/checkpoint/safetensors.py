"""safetensors: eight bytes of length, a JSON header with each tensor's dtype, shape and place, then the data.

Layout as in the format's description (huggingface/safetensors, README). A large model is split into several files,
and model.safetensors.index.json says which tensor lies where.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from .base import Checkpoint
from .bounded_json import MAX_JSON_BYTES, parse_json, read_json_object
from .files import MappedFile, close_all, is_file
from .impostors import N_BYTES, not_a_model
from .names import plain_name, quote
from .tensor import Tensor, TensorType

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"

_LENGTH_BYTES = 8
_FORMAT_MAX_HEADER_BYTES = 100_000_000
_MAX_SHARDS = 1024
_MAX_DIMS = 8
_MAX_NAME_LETTERS = 255
_MAX_SIZE = 1 << 63

_TYPES = {"F32": TensorType.F32, "F16": TensorType.F16, "BF16": TensorType.BF16}
# Of a dtype in neither table, perhaps a newer one, only the place is checked.
_FOREIGN_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8,
    "F64": 8, "C64": 8,
}  # fmt: skip


def begins_as_safetensors(beginning: bytes) -> bool:
    """Whether a header's opening brace stands where it must."""
    return beginning[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


class _Entry(NamedTuple):
    """One tensor of a header, found sound; begin and end count from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class _Header(NamedTuple):
    file: MappedFile
    metadata: dict[str, str]
    entries: dict[str, _Entry]


def read_safetensors(
    paths: list[Path], *, given: Path, folder: Path, weight_map: dict[str, str] | None = None
) -> Checkpoint:
    """Map the files of one model and describe what is in them; no weight is read.

    Args:
        paths: The file, or all shards.
        given: What the user called it.
        folder: Where config.json and other side files lie.
        weight_map: For shards, which file has which tensor.

    Raises:
        ModelFormatError: A file is damaged or cut short; the message names the field.
        ModelNotFoundError: config.json or a file is missing, or this user may not read it.
    """
    if not is_file(folder / CONFIG):
        raise ModelNotFoundError(f"{folder} has no {CONFIG}, which says what the tensors mean. Download all its files.")
    config = read_json_object(folder / CONFIG)
    mapped: list[MappedFile] = []
    try:
        headers: dict[str, _Header] = {}
        for path in paths:
            mapped.append(MappedFile(path))
            headers[path.name] = _read_header(mapped[-1])
        chosen = _choose(folder, headers, weight_map)
    except BaseException:
        close_all(mapped, warn=False)
        raise
    return Checkpoint(
        given,
        "safetensors",
        mapped=mapped,
        tensors={entry.name: _tensor(file, entry) for file, entry in chosen if entry.dtype in _TYPES},
        metadata={key: text for header in headers.values() for key, text in header.metadata.items()},
        config=config,
        folder=folder,
        # Buffers such as integer position ids: harmless unless somebody asks for them.
        foreign={entry.name: entry.dtype for _, entry in chosen if entry.dtype not in _TYPES},
    )


def read_sharded(folder: Path, *, given: Path) -> Checkpoint:
    """Open a model whose tensors are spread over the files that model.safetensors.index.json names.

    Raises:
        ModelNotFoundError: A shard is missing.
        ModelFormatError: The index, or a shard, is damaged.
    """
    path = folder / INDEX
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFormatError(f"{path} is damaged: it has no weight_map. Download it again.")
    names = sorted({plain_name(name, folder) for name in weight_map.values()})
    if len(names) > _MAX_SHARDS:
        raise UnsupportedModelError(f"{path} names {len(names)} files; at most {_MAX_SHARDS} are read.")
    missing = [name for name in names if not is_file(folder / name)]
    if missing:
        listed = ", ".join(map(quote, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ModelNotFoundError(
            f"{folder} holds half a sharded checkpoint: {len(missing)} of its {len(names)} files are missing "
            f"({listed}). Download the rest."
        )
    return read_safetensors([folder / name for name in names], given=given, folder=folder, weight_map=weight_map)


def _read_header(file: MappedFile) -> _Header:
    path, n_bytes = file.path, file.n_bytes
    beginning = file.mapping[:N_BYTES]
    if not begins_as_safetensors(beginning):
        raise not_a_model(path, beginning)
    length = int.from_bytes(beginning[:_LENGTH_BYTES], "little")
    if length > min(n_bytes - _LENGTH_BYTES, _FORMAT_MAX_HEADER_BYTES):
        raise ModelFormatError(
            f"{path} is cut short or damaged: its header has {length} bytes, the file {n_bytes}. Download it again."
        )
    if length > MAX_JSON_BYTES:
        raise UnsupportedModelError(f"{path} has a header of {length} bytes; at most {MAX_JSON_BYTES} are read.")
    data_start = _LENGTH_BYTES + length
    header = parse_json(file.mapping[_LENGTH_BYTES:data_start], f"{path}: the header")
    if not isinstance(header, dict):
        raise ModelFormatError(f"{path}: the header is not a JSON object. Download the file again.")
    metadata = _metadata(path, header.pop("__metadata__", None))
    entries = {name: _entry(path, name, described, data_start) for name, described in header.items()}
    _check_places(path, entries, data_start, n_bytes)
    return _Header(file, metadata, entries)


def _metadata(path: Path, metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        return metadata
    raise ModelFormatError(f"{path}: the header's __metadata__ is not a table of texts. Download the file again.")


def _entry(path: Path, name: str, described: object, data_start: int) -> _Entry:
    """Check one tensor of the header: its fields, and that its bytes are as many as dtype and shape say."""
    what = f"{path}: tensor {quote(name)}"
    if len(name) > _MAX_NAME_LETTERS:
        raise ModelFormatError(f"{what} has a name of {len(name)} letters; at most {_MAX_NAME_LETTERS} are read.")
    if not isinstance(described, dict) or described.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFormatError(f"{what} is not described by dtype, shape and data_offsets. Download the file again.")
    dtype = described["dtype"]
    if not isinstance(dtype, str):
        raise ModelFormatError(f"{what} has a dtype that is no text. Download the file again.")
    shape = _sizes(described["shape"], f"{what}: shape")
    offsets = _sizes(described["data_offsets"], f"{what}: data_offsets")
    if prod(shape) >= _MAX_SIZE:
        raise ModelFormatError(f"{what} has the impossible shape {shape}. Download the file again.")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelFormatError(f"{what} has data_offsets {offsets}, not a begin and an end. Download the file again.")
    begin, end = offsets
    item_bytes = _TYPES[dtype].block_bytes if dtype in _TYPES else _FOREIGN_BYTES.get(dtype)
    if item_bytes is not None and end - begin != prod(shape) * item_bytes:
        raise ModelFormatError(
            f"{what} has {end - begin} bytes, but {dtype} of shape {shape} takes {prod(shape) * item_bytes}. "
            "Download the file again."
        )
    return _Entry(name, dtype, shape, data_start + begin, data_start + end)


def _sizes(value: object, what: str) -> tuple[int, ...]:
    if (
        isinstance(value, list)
        and len(value) <= _MAX_DIMS
        and all(type(item) is int and 0 <= item < _MAX_SIZE for item in value)
    ):
        return tuple(value)
    raise ModelFormatError(f"{what} is not a list of at most {_MAX_DIMS} sizes. Download the file again.")


def _check_places(path: Path, entries: dict[str, _Entry], data_start: int, n_bytes: int) -> None:
    """The tensors fill the data part without holes or overlaps, as the format demands."""
    end, previous = data_start, "the header"
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.end > n_bytes:
            raise ModelFormatError(
                f"{path}: tensor {quote(entry.name)} ends {entry.end - n_bytes} bytes past the end of the file. The "
                "file is cut short: download it again."
            )
        if entry.begin != end:
            fault = "overlaps" if entry.begin < end else "leaves a hole after"
            raise ModelFormatError(
                f"{path} is damaged: tensor {quote(entry.name)} {fault} {previous}. Download it again."
            )
        end, previous = entry.end, f"tensor {quote(entry.name)}"
    if end != n_bytes:
        raise ModelFormatError(f"{path} is damaged: {n_bytes - end} bytes after {previous} belong to no tensor.")


def _choose(
    folder: Path, headers: dict[str, _Header], weight_map: dict[str, str] | None
) -> list[tuple[MappedFile, _Entry]]:
    """The tensors of the model, each with the file that the index names for it."""
    if weight_map is None:
        return [(header.file, entry) for header in headers.values() for entry in header.entries.values()]
    chosen: list[tuple[MappedFile, _Entry]] = []
    for name, shard in weight_map.items():
        header = headers[shard]
        if name not in header.entries:
            raise ModelFormatError(
                f"{folder / INDEX} says that tensor {quote(name)} is in {quote(shard)}, and it is not. The files "
                "belong to different models or versions: download them again."
            )
        chosen.append((header.file, header.entries[name]))
    return chosen


def _tensor(file: MappedFile, entry: _Entry) -> Tensor:
    return Tensor(entry.name, entry.shape, _TYPES[entry.dtype], file.view[entry.begin : entry.end], file.path)
