"""The heads of an embedding model: what stands between hidden states and a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..checkpoint import open_submodule
from ..errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint, Tensor
    from .spec import ModelSpec

_GGUF_MEAN = 1
_GGUF_DENSE = ("dense_2.weight", "dense_3.weight")


def dense_heads(
    checkpoint: Checkpoint, spec: ModelSpec, projection: Tensor | None = None, *, skip: bool = False
) -> tuple[Tensor, ...]:
    """The dense matrices of EmbeddingGemma in the order of use; none for a generative model.

    Args:
        projection: The only one of a model that has it among its own weights, and needs no modules beside them.
        skip: Leave out those beside the weights, wherever they are.

    Raises:
        UnsupportedModelError: The file lacks them, or pools or normalises in another way: its vectors would be wrong.
        ModelFormatError: A module is damaged.
    """
    if spec.is_causal:
        return ()
    heads = _from_gguf(checkpoint, skip) if checkpoint.kind == "gguf" else _from_modules(checkpoint, skip)
    if projection is not None:
        if heads:
            raise UnsupportedModelError(
                f"{checkpoint.path}: modules.json names {len(heads)} dense heads beside the model's own projection."
            )
        return (projection,)
    if not heads and not skip:
        raise UnsupportedModelError(
            f"{checkpoint.path} has no dense heads, so its vectors would not be those of the model. Use the original "
            "folder with 2_Dense and 3_Dense, or a GGUF file converted together with its dense modules; dense='skip' asks for "
            "the mean hidden states alone, to compare with others that leave the heads out."
        )
    _check_shapes(heads, spec.hidden_dim)
    return heads


def _from_gguf(checkpoint: Checkpoint, skip: bool) -> tuple[Tensor, ...]:
    pooling = checkpoint.metadata.get("gemma-embedding.pooling_type", _GGUF_MEAN)
    if isinstance(pooling, np.ndarray) or pooling != _GGUF_MEAN:
        raise UnsupportedModelError(
            f"{checkpoint.path}: pooling type {pooling!r:.40}; EmbeddingGemma takes the mean (1)."
        )
    if skip or not any(name in checkpoint.tensors for name in _GGUF_DENSE):
        return ()
    return tuple(map(checkpoint.tensor, _GGUF_DENSE))


def _from_modules(checkpoint: Checkpoint, skip: bool) -> tuple[Tensor, ...]:
    """Follow modules.json of the sentence-transformers layout."""
    modules = checkpoint.read_json("modules.json")
    if modules is None:
        return ()
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelFormatError(f"{checkpoint.path}: modules.json is no list of modules.")
    heads = []
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        folder = str(module.get("path", ""))
        if kind == "Dense":
            heads += [] if skip else [_dense(checkpoint, folder)]
        elif kind == "Pooling":
            _check_mean(checkpoint, folder)
        elif kind not in {"Transformer", "Normalize"}:
            raise UnsupportedModelError(
                f"{checkpoint.path}: modules.json names a module {kind!r}, which mogemma lacks."
            )
    return tuple(heads)


def _dense(checkpoint: Checkpoint, folder: str) -> Tensor:
    module = open_submodule(checkpoint, folder)
    config = module.config
    activation = str(config.get("activation_function", "Identity")).rpartition(".")[2]
    if config.get("bias") or activation != "Identity" or "linear.bias" in module.tensors:
        raise UnsupportedModelError(
            f"{module.path}: a dense head with a bias or the activation {activation}; EmbeddingGemma has neither."
        )
    return module.tensor("linear.weight")


def _check_shapes(heads: tuple[Tensor, ...], size: int) -> None:
    """Each head takes what the one before it gives, the first a hidden state."""
    for head in heads:
        if len(head.shape) != 2 or head.shape[1] != size:
            raise ModelFormatError(
                f"{head.source}: the dense head {head.name!r} has shape {head.shape}; it must be a matrix that takes "
                f"{size} numbers. Configuration and weights belong to different models."
            )
        size = head.shape[0]


def _check_mean(checkpoint: Checkpoint, folder: str) -> None:
    config = checkpoint.read_json("config.json", folder=folder)
    if not isinstance(config, dict):
        raise ModelFormatError(f"{checkpoint.path}: {folder}/config.json is missing or no group of fields.")
    if "pooling_mode" in config and isinstance(mode := config["pooling_mode"], str) and mode != "mean":
        raise UnsupportedModelError(
            f"{checkpoint.path}: {folder}/config.json pools by {mode:.60}; EmbeddingGemma takes the mean."
        )
    modes = {name.removeprefix("pooling_mode_") for name, is_on in config.items() if is_on is True}
    if others := sorted(modes - {"mean_tokens", "include_prompt"}):
        raise UnsupportedModelError(
            f"{checkpoint.path}: {folder}/config.json pools by {', '.join(others)}; EmbeddingGemma takes the mean."
        )
