"""Which model a command runs when none is named."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import mogemma

from ..errors import ModelNotFoundError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERATORS = ("gemma-3-270m-it", "gemma-3-270m")
EMBEDDERS = ("embeddinggemma-300m",)


def chosen_model(name: str | None, defaults: Sequence[str] = GENERATORS) -> Path:
    """The path of the named model, else of the first of the defaults that is in the model folder.

    Raises:
        ModelNotFoundError: There is none.
    """
    from ..library import find_model, model_folder  # noqa: PLC0415  loads numpy

    if name is not None:
        return find_model(name)
    for default in defaults:
        with suppress(ModelNotFoundError):
            return find_model(default)
    found = [path.name for path in models_in(model_folder())]
    raise ModelNotFoundError(
        f"No model is named, and {model_folder()} has no {' or '.join(defaults)}, but {', '.join(found) or 'nothing'}. "
        "Name a model with -m, by its path or as it is called there. In a clone of the repository `make demo` fetches "
        "gemma-3-270m, and `python tools/fetch_models.py` that and embeddinggemma-300m."
    )


def models_in(folder: Path) -> list[Path]:
    """The GGUF files in a folder, and the folders with safetensors; none where it cannot be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in entries if path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.safetensors")))]


def open_either(path: Path) -> mogemma.SyncGemmaModel | mogemma.SyncEmbeddingModel:
    """A model to look at, whether it writes text or only embeds."""
    try:
        return mogemma.SyncGemmaModel(path)
    except UnsupportedModelError:
        return mogemma.SyncEmbeddingModel(path)  # or it is none at all, and this says so
