"""Find out what a path is, a GGUF file, safetensors or a model folder, and open it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelNotFoundError, UnsupportedModelError
from .files import is_file, is_folder, list_folder, read_beginning, stat_path
from .gguf import MAGIC, read_gguf
from .impostors import N_BYTES, not_a_model
from .names import quote
from .safetensors import INDEX, begins_as_safetensors, read_safetensors, read_sharded

if TYPE_CHECKING:
    from .base import Checkpoint

_SINGLE = "model.safetensors"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_ADAPTER = "adapter_config.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Map a model: a .gguf file, a .safetensors file with config.json beside it, or a folder with either.

    A folder holds config.json with model.safetensors, or with model.safetensors.index.json and the files it names; or
    else exactly one *.gguf (an mmproj-*.gguf beside it is not counted). What a file is, is decided by its first bytes.

    Raises:
        ModelNotFoundError: Nothing is there, no model is in the folder, or part of it is missing or not readable.
        ModelFormatError: A file is damaged, cut short, or no model file at all.
        UnsupportedModelError: A sound file of a kind or version that is not read here.
        OutOfMemoryError: The system will not map the file.
    """
    path = Path(path)
    if stat_path(path) is None:
        raise ModelNotFoundError(f"There is no file or folder {path}.")
    return open_folder(path) if is_folder(path) else _open_file(path)


def open_folder(folder: Path) -> Checkpoint:
    """Open the one model that lies in `folder`; errors as in `open_checkpoint`."""
    if is_file(folder / _SINGLE):
        return read_safetensors([folder / _SINGLE], given=folder, folder=folder)
    if is_file(folder / INDEX):
        return read_sharded(folder, given=folder)
    names = list_folder(folder)
    models = [name for name in names if name.endswith(".gguf") and not name.startswith("mmproj")]
    if len(models) == 1:
        return read_gguf(folder / models[0], given=folder, folder=folder)
    if models:
        listed = ", ".join(map(quote, models[:5])) + (", ..." if len(models) > 5 else "")
        raise ModelNotFoundError(f"{folder} holds {len(models)} GGUF files ({listed}). Give the path of one of them.")
    raise _no_model(folder, names)


def open_submodule(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Open a folder inside a model's folder, such as sentence-transformers' 2_Dense. It closes with the model.

    Raises:
        ModelFormatError: `name` is not the plain name of a folder in there.
        ModelNotFoundError: There is no such folder, or no tensors in it.
    """
    submodule = open_folder(checkpoint.folder(name))
    checkpoint.adopt(submodule)
    return submodule


def _open_file(path: Path) -> Checkpoint:
    beginning = read_beginning(path, N_BYTES)
    if beginning.startswith(MAGIC):
        return read_gguf(path)
    if not begins_as_safetensors(beginning) and path.suffix != ".safetensors":
        raise not_a_model(path, beginning)
    if _SHARD.search(path.name):
        raise UnsupportedModelError(f"{path} is one of several files of a model. Give the folder they lie in.")
    return read_safetensors([path], given=path, folder=path.parent)


def _no_model(folder: Path, names: list[str]) -> ModelNotFoundError:
    if any(_SHARD.search(name) for name in names):
        return ModelNotFoundError(
            f"{folder} has shards of a model but no {INDEX}, which says what is in them. Download it too."
        )
    if _ADAPTER in names:
        return ModelNotFoundError(
            f"{folder} holds an adapter (LoRA), which changes a model, and no model: {_ADAPTER} names the one that it is for. "
            "Merge the two (peft: merge_and_unload, save_pretrained) and give that folder."
        )
    if any(name.endswith(_PICKLES) for name in names):
        return ModelNotFoundError(
            f"{folder} has PyTorch pickles only, which are not read. Get the model as GGUF or safetensors."
        )
    return ModelNotFoundError(f"{folder} holds no model: no {_SINGLE}, no {INDEX} and no *.gguf file.")
