"""What the tests of families share: a configuration is to say the same in every spelling, and nonsense in none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mogemma.checkpoint import Tensor, TensorType

if TYPE_CHECKING:
    from collections.abc import Mapping


def vocabulary(n_tokens: int) -> Mapping[str, Tensor]:
    """The tensors of a GGUF file, as far as metadata leave sizes to them."""
    name = "token_embd.weight"
    return {name: Tensor(name, (n_tokens, 640), TensorType.BF16, memoryview(b""), Path("model.gguf"))}
