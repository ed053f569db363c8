"""What a forward pass is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .kernel import load_kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .memory import Memory


class Cancel:
    """A flag that ends a running call; set it from any thread."""

    def __init__(self) -> None:
        self.flag = load_kernel().ffi.new("int32_t *")

    def set(self) -> None:
        self.flag[0] = 1

    def is_set(self) -> bool:
        return bool(self.flag[0])


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """A sequence's part in a forward pass.

    Attributes:
        token_ids: int32, at least one.
        cache: Where its keys and values are kept; None: for this call only.
        position: Tokens that the cache holds already.
        n_outputs: How many of the last tokens get logits.
    """

    token_ids: NDArray[np.int32]
    cache: Memory | None = None
    position: int = 0
    n_outputs: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the logits of one token, where not all are.

    Attributes:
        k: How many of the greatest, not counting `also`.
        vocab_size: Tokens from here on are left out.
        also: Distinct tokens whose logits are wanted in any case, int32 [n]; k and these are at most `vocab_size`.
    """

    k: int
    vocab_size: int
    also: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BestLogits:
    """The k greatest logits of one token, the very numbers that are among all of them.

    Attributes:
        ids: Greatest first, equal ones by lower id, int32 [k].
        values: Their logits, float32 [k].
        also: Tokens that were asked for, and are not among those, int32 [n].
        also_values: Their logits, float32 [n].
        n_finished: Rows of the head that were read as a whole to be certain.
    """

    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    also: NDArray[np.int32]
    also_values: NDArray[np.float32]
    n_finished: int
