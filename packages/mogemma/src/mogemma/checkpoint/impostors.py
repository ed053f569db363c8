"""What people have instead of a model file, told by its first bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import ModelFormatError, MogemmaError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

N_BYTES = 64
"""Bytes from the beginning of a file that `not_a_model` looks at."""

_INSTEAD = "Get the model as GGUF or safetensors."
_DAMAGED = [
    (rb"version https://git-lfs", "is a git-lfs pointer, not the file itself. Run `git lfs pull` in its folder."),
    (rb"\s*<(!doctype|html|\?xml)", "is a web page: the download was answered with a login or an error page."),
]
_UNSUPPORTED = [
    (rb"PK\x03\x04", f"is a zip archive (PyTorch's .bin and .pt are such). {_INSTEAD}"),
    (rb"\x80[\x02-\x05][^\x00]", f"is a Python pickle, which can run any code when it is read. {_INSTEAD}"),
    (rb"(lmgg|fmgg|tjgg|algg)", f"is in a format older than GGUF. {_INSTEAD}"),
    (rb"FUGG", "is a GGUF file with its bytes swapped. Use the usual little-endian file."),
    (rb"(\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf)", "is compressed. Unpack it first."),
    (rb"\x89HDF", f"is an HDF5 file (Keras). {_INSTEAD}"),
    (rb"....TFL3", f"is a TensorFlow Lite model. {_INSTEAD}"),
    (rb"\s*[{\[]", "is JSON, not weights. Give the folder it lies in, or the weights beside it."),
]


def not_a_model(path: Path, beginning: bytes) -> MogemmaError:
    """The error to raise for a file that begins neither as GGUF nor as safetensors."""
    for pattern, what in _DAMAGED:
        if re.match(pattern, beginning, re.IGNORECASE):
            return ModelFormatError(f"{path} {what}")
    for pattern, what in _UNSUPPORTED:
        if re.match(pattern, beginning, re.DOTALL):
            return UnsupportedModelError(f"{path} {what}")
    if not beginning:
        return ModelFormatError(f"{path} is empty: the download did not finish. Download it again.")
    return ModelFormatError(f"{path} is neither GGUF nor safetensors: it begins with {beginning[:8]!r}.")
