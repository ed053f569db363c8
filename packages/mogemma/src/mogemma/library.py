"""Where a model is found on this machine: a path, or the name of one in the model folder."""

from __future__ import annotations

import os
from contextlib import suppress
from glob import escape
from pathlib import Path

from .checkpoint.files import stat_path
from .errors import ModelNotFoundError

FOLDER_VARIABLE = "MOGEMMA_MODELS"
_FOLDER = Path("~/.cache/mogemma-models")


def model_folder() -> Path:
    """Where models lie that are called by name: MOGEMMA_MODELS, or a folder in the user's cache."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _FOLDER).expanduser()


def find_model(name: str | os.PathLike[str]) -> Path:
    """The path of a model: `name` itself if it is one, else the file or folder of that name in the model folder.

    `gemma-3-270m` also finds the one GGUF file there whose name begins so.

    Raises:
        ModelNotFoundError: There is neither, it cannot be looked at, or several files fit.
    """
    path = Path(name)
    with suppress(RuntimeError):  # no such user: then it is the name of a file
        path = path.expanduser()
    if path.is_absolute() or stat_path(path) is not None:
        return path
    folder = model_folder()
    if len(path.parts) == 1:
        if stat_path(folder / path) is not None:
            return folder / path
        fitting = sorted(folder.glob(f"{escape(path.name.lower())}[-.]*gguf"))
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(one.name for one in fitting)
            raise ModelNotFoundError(f"Several models in {folder} fit {path.name!r}: {names}. Name one of them.")
    raise ModelNotFoundError(
        f"There is no model {str(name)!r}, neither as a path nor in {folder} ({FOLDER_VARIABLE}). "
        f"Give the path of a .gguf file or of a folder with safetensors."
    )
