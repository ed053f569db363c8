"""The model folder: files and folders on this machine that are called by name."""

from __future__ import annotations

import os
from glob import escape
from pathlib import Path

from .checkpoint.files import stat_path
from .errors import ModelNotFoundError

FOLDER_VARIABLE = "MOGEMMA_MODELS"
_FOLDER = Path("~/.cache/mogemma-models")


def model_folder() -> Path:
    """Where models lie that are called by name: MOGEMMA_MODELS, or a folder in the user's cache."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _FOLDER).expanduser()


def find_in_folder(name: str) -> Path | None:
    """The file or folder of that name in the model folder; None where there is none.

    `gemma-3-270m` also finds the one GGUF file there whose name begins so.

    Raises:
        ModelNotFoundError: It cannot be looked at, or several files fit.
    """
    folder = model_folder()
    if len(Path(name).parts) != 1:
        return None
    if stat_path(folder / name) is not None:
        return folder / name
    fitting = sorted(folder.glob(f"{escape(name.lower())}[-.]*gguf"))
    if len(fitting) > 1:
        names = ", ".join(one.name for one in fitting)
        raise ModelNotFoundError(f"Several models in {folder} fit {name!r}: {names}. Name one of them.")
    return fitting[0] if fitting else None
