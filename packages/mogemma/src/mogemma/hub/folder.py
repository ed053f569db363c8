"""Files and folders in the model folder, by the names that people call them."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint.files import stat_path
from ..errors import ModelNotFoundError
from ..library import model_folder
from .files import quantisation
from .known import KNOWN

_ENDING = ".gguf"


def find_in_folder(name: str) -> Path | None:
    """The file or folder of that name in the model folder; None where there is none.

    A known name also finds the one GGUF file there that is called so but for its quantisation; any other name, the one whose
    name begins so.

    Raises:
        ModelNotFoundError: It cannot be looked at, or several files fit.
    """
    folder = model_folder()
    if len(Path(name).parts) != 1:
        return None
    if stat_path(folder / name) is not None:
        return folder / name
    fitting = sorted(path for path in folder.glob("*") if _fits(path.name.lower(), name.lower()))
    if len(fitting) > 1:
        names = ", ".join(one.name for one in fitting)
        raise ModelNotFoundError(f"Several models in {folder} fit {name!r}: {names}. Name one of them.")
    return fitting[0] if fitting else None


def _fits(file: str, name: str) -> bool:
    """Whether a name may mean a file; both in small letters.

    gemma-3-270m is known, so it does not mean gemma-3-270m-it-Q8_0.gguf, which is another model.
    """
    if not file.endswith(_ENDING) or not file.startswith((f"{name}-", f"{name}.")):
        return False
    rest = file.removeprefix(name).removesuffix(_ENDING)
    return name not in KNOWN or rest[1:] == quantisation(file).lower()
