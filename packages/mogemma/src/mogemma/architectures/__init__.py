"""From a checkpoint to what the kernels take: which family it is, its numbers, its weights by role.

A family is one file here with `MODEL_TYPES` and `describe`, for GGUF also `GGUF_ARCHITECTURES` and `describe_gguf`, and a word
in a list below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..checkpoint import TensorType
from ..errors import ModelFormatError, UnsupportedModelError
from . import embeddinggemma2, gemma1, gemma2, gemma3, gemma3n, gemma4
from .fields import Fields
from .names import HEADS
from .pooling import dense_heads
from .weights import Weights, prefix_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..checkpoint import Checkpoint, Tensor
    from .spec import ModelSpec


class Family(Protocol):
    """What a family's file has."""

    MODEL_TYPES: frozenset[str]
    """`model_type` in a config.json."""

    # Translate a config.json, or its `text_config`.
    def describe(self, config: Fields) -> ModelSpec: ...


class GgufFamily(Family, Protocol):
    """What it has if there are GGUF files of it."""

    GGUF_ARCHITECTURES: frozenset[str]
    """`general.architecture` in GGUF metadata."""

    # Translate GGUF metadata; some sizes show in the shapes of tensors only.
    def describe_gguf(self, fields: Fields, tensors: Mapping[str, Tensor]) -> ModelSpec: ...


GGUF_FAMILIES: tuple[GgufFamily, ...] = (gemma1, gemma2, gemma3, gemma3n, gemma4)
FAMILIES: tuple[Family, ...] = (*GGUF_FAMILIES, embeddinggemma2)

_MAIN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices that make up a model's size. Others stay floats in files that are quantised otherwise."""

HEAD_DIM_STEP = 16
"""mogemma.h: head_dim is a multiple of it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model as numbers.

    Attributes:
        spec: Its sizes, layer by layer.
        struct: `mogemma_model`, as a mapping whose buffers lie in the checkpoint.
        n_dense: Dense heads that an embedding passes through.
    """

    spec: ModelSpec
    struct: Mapping[str, Any]
    n_dense: int

    @property
    def is_quantised(self) -> bool:
        """Whether the weights of attention, MLPs and experts are integers with scales."""
        floats = {TensorType.F32, TensorType.F16, TensorType.BF16}
        main = [layer[role] for layer in self.struct["layers"] for role in _MAIN if role in layer]
        main += [value for layer in self.struct["layers"] for one in layer.get("experts", []) for value in one.values()]
        return all(value["format"] not in floats for value in main)

    @property
    def layer_weights(self) -> int:
        """Weights that every token is multiplied by: no dense heads, which a text passes once, and of experts only so many
        as a token goes to.
        """
        struct = self.struct
        total = _n_weights([struct["ple_projection"]] if "ple_projection" in struct else [])
        total += _n_weights([*struct.get("stream_begin", []), *struct.get("stream_end", [])])
        for layer in struct["layers"]:
            total += _n_weights(value for value in layer.values() if isinstance(value, dict))
            if "experts" in layer:
                total += layer["n_experts_used"] * _n_weights(layer["experts"][0].values())
        return total


def _n_weights(matrices: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(matrix["n_rows"] * matrix["n_columns"]) for matrix in matrices)


def read_architecture(checkpoint: Checkpoint, *, skip_dense: bool = False) -> Architecture:
    """Describe a checkpoint and find its weights; with `skip_dense` without the dense heads of EmbeddingGemma.

    Raises:
        UnsupportedModelError: No family here is its, or it lacks what its family needs.
        ModelFormatError: Its configuration is contradictory, or a tensor is missing or of another shape.
    """
    spec = read_spec(checkpoint)
    _check_heads(spec, checkpoint)
    weights = Weights(checkpoint, spec)
    dense = dense_heads(checkpoint, spec, weights.projection(), skip=skip_dense)
    return Architecture(spec, weights.struct(dense), len(dense))


def read_spec(checkpoint: Checkpoint) -> ModelSpec:
    """The numbers of a checkpoint; errors as in `read_architecture`."""
    if checkpoint.kind == "gguf":
        name = checkpoint.metadata.get("general.architecture")
        for known in GGUF_FAMILIES:
            if isinstance(name, str) and name in known.GGUF_ARCHITECTURES:
                checkpoint.tensor("token_embd.weight")  # its absence has a sentence of its own
                return known.describe_gguf(Fields(checkpoint.metadata, checkpoint.path, f"{name}."), checkpoint.tensors)
        raise _unknown(checkpoint, "GGUF architecture", name, [f.GGUF_ARCHITECTURES for f in GGUF_FAMILIES])
    config = checkpoint.config
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise UnsupportedModelError(f"{checkpoint.path}: 'text_config' in config.json is no group of fields.")
    # What a text model is part of may use it in another way: PaliGemma sees its prompt both ways.
    names = [part["model_type"] for part in (text, config) if "model_type" in part]
    for family in FAMILIES:
        if names and all(isinstance(name, str) and name in family.MODEL_TYPES for name in names):
            return family.describe(Fields(text, checkpoint.side_file("config.json") or checkpoint.path))
    if len(names) > 1 and all(map(_is_known, names)):
        raise ModelFormatError(f"{checkpoint.path}: config.json says both {names[0]!r:.60} and {names[1]!r:.60}.")
    name = next((name for name in names[::-1] if not _is_known(name)), None)
    raise _unknown(checkpoint, "model type", name, [family.MODEL_TYPES for family in FAMILIES])


def unused_parts(checkpoint: Checkpoint) -> list[str]:
    """What lies beside the text model in a checkpoint, and no text needs: vision_tower, embed_audio, ..."""
    if checkpoint.kind == "gguf" or not (prefix := prefix_of(checkpoint)):
        return []
    used = (prefix, *HEADS[0])
    others = (name.removeprefix("model.") for name in checkpoint.tensors if not name.startswith(used))
    return sorted({name.partition(".")[0] for name in others})


def _is_known(name: object) -> bool:
    return isinstance(name, str) and any(name in family.MODEL_TYPES for family in FAMILIES)


def _check_heads(spec: ModelSpec, checkpoint: Checkpoint) -> None:
    """What no shape of a weight would show."""
    for layer in spec.layers:
        if layer.head_dim % HEAD_DIM_STEP:
            raise UnsupportedModelError(
                f"{checkpoint.path}: heads of {layer.head_dim} numbers (head_dim); the kernels run multiples of "
                f"{HEAD_DIM_STEP}."
            )
        if layer.n_heads % layer.n_kv_heads:
            raise ModelFormatError(
                f"{checkpoint.path}: {layer.n_heads} heads cannot share {layer.n_kv_heads} heads of keys and values "
                "evenly. The configuration is damaged."
            )


def _unknown(checkpoint: Checkpoint, what: str, name: object, known: list[frozenset[str]]) -> UnsupportedModelError:
    names = ", ".join(sorted(set().union(*known)))
    return UnsupportedModelError(f"{checkpoint.path}: {what} {name!r:.60} is not one that mogemma runs ({names}).")
