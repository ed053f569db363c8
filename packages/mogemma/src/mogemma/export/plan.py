"""Which tensors a GGUF file gets from a checkpoint: their names, their types, and where their weights are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..architectures.names import AS_STORED, LAYER_MATRICES, LAYER_NORMS, MODEL_TENSORS
from ..checkpoint import TensorType
from ..errors import UnsupportedModelError
from ..weight_types import FLOATS, TYPE_OF, WEIGHT_TYPES, fitting_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from .._native import FloatsAs
    from ..architectures import Architecture
    from ..checkpoint import Checkpoint

_FIRST_DENSE = 2
"""dense_2 and dense_3 are called so after the folders 2_Dense and 3_Dense."""

_HEADS = ("token_embd.weight", "output.weight")

_Found: TypeAlias = "tuple[str, tuple[int, ...], Mapping[str, Any] | NDArray[np.float32]]"


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A tensor of the file.

    Attributes:
        shape: Outermost first.
        type: What its weights become.
        source: A matrix of floats as a mapping of `mogemma_matrix`, or the numbers themselves (norms).
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    source: Mapping[str, Any] | NDArray[np.float32]

    @property
    def n_bytes(self) -> int:
        return self.type.n_bytes(prod(self.shape))

    @property
    def source_bytes(self) -> int:
        return self.source.nbytes if isinstance(self.source, np.ndarray) else memoryview(self.source["data"]).nbytes


def plan_tensors(checkpoint: Checkpoint, architecture: Architecture, kind: str) -> list[Planned]:
    """The tensors in the order of the file.

    Args:
        checkpoint: Floats; those of a GGUF file keep their names.
        architecture: Of that checkpoint.
        kind: A name in WEIGHT_TYPES.

    Raises:
        UnsupportedModelError: Weights are quantised already, or there are some that GGUF has no name for.
    """
    found = _from_gguf(checkpoint) if checkpoint.kind == "gguf" else _from_roles(checkpoint, architecture)
    return [_planned(checkpoint.path, *each, WEIGHT_TYPES[kind]) for each in found]


def _from_gguf(checkpoint: Checkpoint) -> Iterator[_Found]:
    for name, tensor in checkpoint.tensors.items():
        if len(tensor.shape) == 1:
            yield name, tensor.shape, tensor.to_float32()
        else:
            rows = prod(tensor.shape[:-1])  # of all experts, where there are several
            weights = {"data": tensor.data, "n_rows": rows, "n_columns": tensor.shape[-1], "format": int(tensor.type)}
            yield name, tensor.shape, weights


def _from_roles(checkpoint: Checkpoint, architecture: Architecture) -> Iterator[_Found]:
    struct = architecture.struct
    names = {role: name for role, (_, name) in {**LAYER_MATRICES, **LAYER_NORMS}.items()}
    for role in ("token_embedding", "final_norm"):
        yield _named(MODEL_TENSORS[role][1], struct[role])
    if struct["head"]["data"] is not struct["token_embedding"]["data"]:
        yield _named("output.weight", struct["head"])
    for index, head in enumerate(struct["dense"] or [], start=_FIRST_DENSE):
        yield _named(f"dense_{index}.weight", head)
    for index, layer in enumerate(struct["layers"]):
        for role, value in layer.items():
            if not isinstance(value, (dict, np.ndarray)):
                continue  # a number, or a weight that this model does not have
            if role not in names:
                raise UnsupportedModelError(f"{checkpoint.path}: GGUF has no name for {role!r} of layer {index}.")
            yield _named(f"blk.{index}.{names[role]}", value)


def _named(name: str, value: Mapping[str, Any] | NDArray[np.float32]) -> _Found:
    shape = value.shape if isinstance(value, np.ndarray) else (value["n_rows"], value["n_columns"])
    return name, shape, value


def _planned(
    path: Path, name: str, shape: tuple[int, ...], source: Mapping[str, Any] | NDArray[np.float32], types: FloatsAs
) -> Planned:
    if isinstance(source, np.ndarray):
        return Planned(name, shape, TensorType.F32, source)
    stored = TYPE_OF[source["format"]]
    if _stays(name):
        return Planned(name, shape, stored, source)
    if stored not in FLOATS:
        raise UnsupportedModelError(
            f"{path}: {name} is quantised already ({stored.name}), and quantising twice adds one error to the other. "
            "Use the original float weights."
        )
    wanted = types.layers
    if name in _HEADS:
        wanted = types.head
    elif name.startswith("dense_"):
        wanted = types.dense
    return Planned(name, shape, fitting_type(wanted, shape[-1], stored), source)


def _stays(name: str) -> bool:
    """Whether it is a layer's, `blk.7.ffn_gate_inp.weight`, and not to be quantised."""
    layer, _, role = name.removeprefix("blk.").partition(".")
    return layer.isdecimal() and role in AS_STORED
