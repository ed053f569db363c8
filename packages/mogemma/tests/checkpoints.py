"""Changed copies of the tiny checkpoints: another configuration, a tensor that is missing or of another shape."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

TINY = Path(__file__).parent / "data" / "tiny"
GEMMA = TINY / "gemma3-text"
EMBEDDING_GEMMA = TINY / "embeddinggemma"
QUANT_ZOO = TINY / "quant-zoo"

Stored = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Tensors of a safetensors file: type, shape and bytes by name."""


def copy_folder(
    source: Path,
    target: Path,
    config: Mapping[str, Any] | None = None,
    *,
    leave_out: Collection[str] = (),
    tensors: Callable[[Stored], Stored] | None = None,
) -> Path:
    """A copy of a model folder without its GGUF file.

    Args:
        config: Fields of config.json to change; None takes one away.
        leave_out: Names of files or folders in it.
        tensors: Changes what model.safetensors holds.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.gguf", "golden.npz", *leave_out))
    if config is not None:
        fields = {**json.loads((source / "config.json").read_bytes()), **config}
        kept = {key: value for key, value in fields.items() if value is not None}
        (target / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    if tensors is not None:
        write_safetensors(target / "model.safetensors", tensors(read_safetensors(source / "model.safetensors")))
    return target


def read_safetensors(path: Path) -> Stored:
    data = path.read_bytes()
    (n_header,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n_header])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + n_header :]
    return {
        name: (entry["dtype"], tuple(entry["shape"]), bytes(body[slice(*entry["data_offsets"])]))
        for name, entry in header.items()
    }


def write_safetensors(path: Path, tensors: Stored) -> None:
    header, end = {}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(data for *_, data in tensors.values()))


def copy_gguf(
    source: Path,
    target: Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    leave_out: Collection[str] = (),
    tensors: Mapping[str, NDArray[Any] | tuple[NDArray[Any], Any]] | None = None,
) -> Path:
    """A copy of a GGUF file.

    Args:
        metadata: Keys to change; None takes one away.
        leave_out: Names of tensors, or beginnings of keys when they end in a dot.
        tensors: Put in place of, or added to, those of the file; numbers, or blocks and their type.
    """
    reader = gguf.GGUFReader(source)
    changes = {} if metadata is None else dict(metadata)
    architecture = changes.get("general.architecture", reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(target, "" if architecture is None else str(architecture))
    writer.kv_data[0].clear()
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in changes or any(key.startswith(one) for one in leave_out if one[-1] == "."):
            continue
        sub_type = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type)
    for key, value in changes.items():
        if value is not None:
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value), _item_type(value))
    added = {} if tensors is None else dict(tensors)
    for tensor in reader.tensors:
        if tensor.name not in leave_out and tensor.name not in added:
            writer.add_tensor(tensor.name, np.asarray(tensor.data), raw_dtype=tensor.tensor_type)
    for name, array in added.items():
        blocks, kind = array if isinstance(array, tuple) else (array, None)
        writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def copy_with_fewer_pieces(
    source: Path, target: Path, n_pieces: int, metadata: Mapping[str, Any] | None = None
) -> Path:
    """A copy of a GGUF file whose tokenizer ends there, though the head has more rows, as published models' do."""
    fields = gguf.GGUFReader(source).fields
    lists = {f"tokenizer.ggml.{name}": fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type")}
    fewer = {key: field.contents()[:n_pieces] for key, field in lists.items()}
    return copy_gguf(source, target, {**fewer, **(metadata or {})})


def _item_type(value: object) -> Any:
    return gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None


def convert_to_gguf(source: Path, target: Path, architecture: str, metadata: Mapping[str, Any], *, fold: bool) -> Path:
    """A GGUF file of a safetensors model, with the names that the `gguf` package gives to its tensors.

    Args:
        metadata: Keys below the architecture's name.
        fold: Norm weights are stored less 1, and GGUF has the 1 added.
    """
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, int(metadata["block_count"]))
    writer = gguf.GGUFWriter(target, architecture)
    for key, value in metadata.items():
        writer.add_key_value(f"{architecture}.{key}", value, gguf.GGUFValueType.get_type(value), _item_type(value))
    for name, (_, shape, data) in read_safetensors(source / "model.safetensors").items():
        if "vision" in name or "audio" in name:
            continue
        numbers = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
        if fold and name.endswith("norm.weight"):
            numbers = numbers + np.float32(1)
        theirs = names.get_name(name.replace("model.language_model.", "model."), try_suffixes=(".weight",))
        assert theirs is not None, name
        writer.add_tensor(theirs if theirs.endswith(".weight") else f"{theirs}.weight", numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def quantise_gguf(source: Path, target: Path, kind: Any) -> Path:
    """A copy of a GGUF file whose matrices are of `kind`, where their rows are whole blocks; others stay as they are."""
    reader = gguf.GGUFReader(source)
    quantised = {}
    for tensor in reader.tensors:
        # What decides where a token goes stays float, as ggml's quantiser leaves it.
        is_choice = "altup" in tensor.name or "ffn_gate_inp" in tensor.name
        if len(tensor.shape) > 1 and int(tensor.shape[0]) % 32 == 0 and not is_choice:
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            quantised[tensor.name] = gguf.quants.quantize(numbers, kind), kind
    return copy_gguf(source, target, tensors=quantised)
