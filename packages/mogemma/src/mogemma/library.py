"""The model folder: where files and folders lie that are called by name (`hub/folder.py`)."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_VARIABLE = "MOGEMMA_MODELS"
_FOLDER = Path("~/.cache/mogemma-models")


def model_folder() -> Path:
    """Where models lie that are called by name: MOGEMMA_MODELS, or a folder in the user's cache."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _FOLDER).expanduser()
