"""The matrices of an open model that tokens are multiplied by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .kernel import Kernel

Part = Literal["layers", "dense", "head"]

_LISTS: Mapping[str, Part] = {"stream_begin": "layers", "stream_end": "layers", "dense": "dense"}
"""The model's own fields that are lists of matrices."""


@dataclass(slots=True)
class Matrix:
    """A matrix that stands in the structs of an open model.

    Attributes:
        native: Its `mogemma_matrix *` there: what is written to it is read by the next call.
        name: What an error calls it.
        n_bytes: Its size as it is read now; 0 where its weights are not there.
        part: "head": it gives logits. "dense": it stands between the pooled hidden state and the embedding.
        share: Of the tokens, how many are multiplied by it.
    """

    native: Any
    name: str
    n_bytes: int
    part: Part = "layers"
    share: float = 1.0


def matrices_of(kernel: Kernel, native: Any, model: Mapping[str, Any]) -> Iterator[Matrix]:
    """All of them in the order of use; the head is the last.

    The router of experts is left out, and stays as it is stored: on its choices all else hangs.

    Args:
        kernel: The library.
        native: `mogemma_model *`, which was filled from `model`.
        model: The mapping, which knows what is missing and how long each buffer is.
    """
    for index, layer in enumerate(model.get("layers") or []):
        place = native.layers[index]
        yield from _fields(kernel, place, "layer", layer, f"layer {index}")
        experts = layer.get("experts") or []
        for number, expert in enumerate(experts):
            share = layer["n_experts_used"] / len(experts)
            yield from _fields(
                kernel, place.experts[number], "expert", expert, f"expert {number} of layer {index}", share
            )
    if (projection := model.get("ple_projection")) is not None:
        yield Matrix(kernel.ffi.addressof(native, "ple_projection"), "ple_projection", _size(projection))
    for field, part in _LISTS.items():
        for index, given in enumerate(model.get(field) or []):
            yield Matrix(kernel.ffi.addressof(getattr(native, field), index), f"{field} {index}", _size(given), part)
    yield Matrix(kernel.ffi.addressof(native, "head"), "the output head", _size(model["head"]), "head")


def _fields(
    kernel: Kernel, place: Any, struct: str, given: Mapping[str, Any], where: str, share: float = 1.0
) -> Iterator[Matrix]:
    """The matrices among the fields of a struct, as far as the model has them."""
    for name, field in kernel.ffi.typeof(f"mogemma_{struct}").fields:
        if field.type.cname == "mogemma_matrix" and name != "router" and given.get(name) is not None:
            yield Matrix(kernel.ffi.addressof(place, name), f"{name} of {where}", _size(given[name]), share=share)


def _size(given: Mapping[str, Any]) -> int:
    data = given.get("data")
    return 0 if data is None else memoryview(data).nbytes
