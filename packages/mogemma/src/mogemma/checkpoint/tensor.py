"""A named, typed stretch of a mapped model file; nothing is copied until somebody asks for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self


class TensorType(IntEnum):
    """How weights are stored, under GGUF's own numbers: number, weights a block, bytes a block."""

    block_weights: int
    block_bytes: int

    def __new__(cls, number: int, block_weights: int, block_bytes: int) -> Self:
        member = int.__new__(cls, number)
        member._value_ = number
        member.block_weights = block_weights
        member.block_bytes = block_bytes
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    IQ4_NL = 20, 32, 18
    IQ4_XS = 23, 256, 136
    BF16 = 30, 1, 2
    MXFP4 = 39, 32, 17

    def n_bytes(self, n_weights: int) -> int:
        """Bytes of `n_weights` weights, which must be whole blocks."""
        return n_weights // self.block_weights * self.block_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a checkpoint; it lives as long as the checkpoint is open.

    Attributes:
        name: As the file spells it.
        shape: Outermost first, as numpy says it: (rows, columns).
        type: How each row is stored.
        data: Read-only bytes of the mapping, exactly as many as shape and type say. GGUF aligns them (32 bytes unless
            the file says otherwise); safetensors promises no alignment at all.
        source: The file it lies in.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    data: memoryview
    source: Path

    @property
    def n_weights(self) -> int:
        return prod(self.shape)

    def to_float32(self) -> NDArray[np.float32]:
        """Copy F32, F16 or BF16 weights into an array of `shape`; for small tensors such as norms.

        Raises:
            UnsupportedModelError: The tensor is quantised.
        """
        if self.type is TensorType.F32:
            return np.frombuffer(self.data, "<f4").astype(np.float32).reshape(self.shape)
        if self.type is TensorType.F16:
            return np.frombuffer(self.data, "<f2").astype(np.float32).reshape(self.shape)
        if self.type is TensorType.BF16:
            # A bfloat16 is the upper half of a float32.
            upper = np.frombuffer(self.data, "<u2").astype(np.uint32)
            numbers: NDArray[np.float32] = (upper << 16).view(np.float32)
            return numbers.reshape(self.shape)
        raise UnsupportedModelError(
            f"{self.source}: tensor {self.name!r} is stored as {self.type.name}, but is needed as plain numbers "
            "(F32, F16 or BF16). Use a file whose norms and other small tensors are not quantised."
        )
