"""File to tensors without copying: open a GGUF file, a safetensors file or a model folder.

Model files come from strangers. Every size in them is compared with the bytes that are really there before it is used,
so a damaged or hostile file costs an exception, never a crash, a hang or memory.
"""

from __future__ import annotations

from .base import Checkpoint
from .open import open_checkpoint, open_submodule
from .strings import StringArray
from .tensor import Tensor, TensorType

__all__ = ["Checkpoint", "StringArray", "Tensor", "TensorType", "open_checkpoint", "open_submodule"]
