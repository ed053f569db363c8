"""What float weights become under each name that `quantize` and `mogemma quantize` take.

Norms stay float32 under every one. The head, which is the token embeddings in most models, is Q8_0 beside smaller layers:
it decides between tokens that are nearly as likely, and Q8_0 is what it can be read in part of (docs/certified-head.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._native import FloatsAs
from .checkpoint import TensorType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_Q8_0, _BF16 = (TensorType.Q8_0,), (TensorType.BF16,)

WEIGHT_TYPES: Mapping[str, FloatsAs] = {
    "q8_0": FloatsAs(layers=_Q8_0, head=_Q8_0, dense=_BF16),
    "q6_k": FloatsAs(layers=(TensorType.Q6_K, TensorType.Q8_0), head=_Q8_0, dense=_BF16),
    "q4_k": FloatsAs(layers=(TensorType.Q4_K, TensorType.Q5_0), head=_Q8_0, dense=_BF16),
    "q4_0": FloatsAs(layers=(TensorType.Q4_0,), head=_Q8_0, dense=_BF16),
    "bf16": FloatsAs(layers=_BF16, head=_BF16, dense=_BF16),
    "f16": FloatsAs(layers=(TensorType.F16,), head=(TensorType.F16,), dense=(TensorType.F16,)),
    "f32": FloatsAs(layers=(TensorType.F32,), head=(TensorType.F32,), dense=(TensorType.F32,)),
}
"""Of each kind of matrix the type that it becomes. Where a row is not whole blocks of the first, it is the next (Q4_K and
Q6_K take 256 weights at a time, and rows of 640 or 1152 are no multiple); where it is not of the last either, it stays."""

TYPE_OF: Mapping[int, TensorType] = {int(kind): kind for kind in TensorType}
"""By the number that GGUF and mogemma.h give it."""

FLOATS = frozenset({TensorType.F32, TensorType.F16, TensorType.BF16})

ENCODER_COLUMNS = 32
"""The kernels encode so many columns at a time, or a block where that is longer."""


def fitting_type(types: Iterable[int], n_columns: int, stored: TensorType) -> TensorType:
    """The first of the types that rows of so many weights can have, else the one they are stored in."""
    for number in types:
        kind = TYPE_OF[number]
        if n_columns % max(kind.block_weights, ENCODER_COLUMNS) == 0:
            return kind
    return stored
