"""Names written in model files: quoted for a sentence, and kept inside the model's own folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelFormatError

if TYPE_CHECKING:
    from pathlib import Path

_QUOTED_LETTERS = 80
_NOT_IN_NAMES = frozenset("/\\:\0")


def quote(name: str) -> str:
    """A name for a sentence: quoted, with what cannot be printed escaped, and not too long."""
    return repr(name if len(name) <= _QUOTED_LETTERS else name[: _QUOTED_LETTERS - 3] + "...")


def plain_name(name: object, folder: Path) -> str:
    """`name` if it names something directly inside `folder`.

    Raises:
        ModelFormatError: It is no text, is a path, or leads out of the folder.
    """
    if isinstance(name, str) and name not in ("", ".", "..") and not set(name) & _NOT_IN_NAMES:
        return name
    shown = quote(name) if isinstance(name, str) else f"of type {type(name).__name__}"
    raise ModelFormatError(
        f"{folder}: the model refers to a file or folder {shown}. Only plain names inside its own folder are read."
    )
