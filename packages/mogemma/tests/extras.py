"""What some models have and most lack: added to a model of random weights, as `mogemma.h` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from blocks import random_matrix

from mogemma.checkpoint import TensorType

if TYPE_CHECKING:
    from blocks import Floats

LAUREL_SCALE = 0.75
TABLE_SCALE = 0.5


class Maker:
    """Makes weights by chance."""

    def __init__(self, kind: TensorType, seed: int) -> None:
        self._kind = kind
        self._rng = np.random.default_rng(seed)

    def norm(self, size: int) -> Floats:
        """Around 1."""
        return (1 + self._rng.standard_normal(size) / 8).astype(np.float32)

    def matrix(self, n_rows: int, n_columns: int) -> dict[str, Any]:
        made = random_matrix(self._kind, n_rows, n_columns, seed=int(self._rng.integers(2**32)))
        if self._kind is TensorType.F32:  # about as large as in a trained model
            made["data"] = (made["data"].view(np.float32) / np.float32(np.sqrt(n_columns))).view(np.uint8)
        return made

    def numbers(self, *shape: int) -> Floats:
        """Float32, whatever the matrices are."""
        numbers: Floats = (self._rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        return numbers


def add_extras(
    model: dict[str, Any],
    maker: Maker,
    *,
    has_v_norm: bool = False,
    takes_keys: bool = False,
    kv_backs: tuple[int, ...] = (),
    gate_cutoff: float = 0.0,
    output_scale: float = 0.0,
    laurel_rank: int = 0,
    experts: tuple[int, int, int] | None = None,
    ple_dim: int = 0,
    ple_rows: int = 0,
    n_streams: int = 1,
) -> None:
    """Change a model.

    Args:
        takes_keys: Values are what the keys' matrix gives.
        kv_backs: `kv_back` of each layer; default: all have their own keys and values.
        experts: How many there are, how many a token goes to, and their `expert_dim`.
        ple_rows: Of the table of per-layer embeddings, which may be fewer than there are tokens; 0: there is none.
    """
    for layer, back in zip(model["layers"], kv_backs or (0,) * len(model["layers"]), strict=True):
        layer |= {"kv_back": back, "gate_cutoff": gate_cutoff, "output_scale": output_scale}
        for name in ("k_proj", "v_proj") if back else ("v_proj",) if takes_keys else ():
            del layer[name]
        if has_v_norm:
            layer["v_norm"] = np.ones(layer["head_dim"], np.float32)
    if laurel_rank:
        _add_laurel(model, maker, laurel_rank)
    if experts is not None:
        _add_experts(model, maker, *experts)
    if ple_dim:
        _add_layer_embeddings(model, maker, ple_dim, ple_rows)
    if n_streams > 1:
        _add_streams(model, maker, n_streams)


def _add_laurel(model: dict[str, Any], maker: Maker, rank: int) -> None:
    dim = model["hidden_dim"]
    for layer in model["layers"]:
        layer["laurel_left"], layer["laurel_right"] = maker.matrix(rank, dim), maker.matrix(dim, rank)
        layer["laurel_norm"], layer["laurel_scale"] = maker.norm(dim), LAUREL_SCALE


def _add_experts(model: dict[str, Any], maker: Maker, n: int, n_used: int, inner: int) -> None:
    dim = model["hidden_dim"]
    shapes = {"gate_proj": (inner, dim), "up_proj": (inner, dim), "down_proj": (dim, inner)}
    for layer in model["layers"]:
        norms = ("router_norm", "expert_norm", "post_expert_norm", "post_dense_norm")
        layer |= {"n_experts": n, "n_experts_used": n_used, "expert_dim": inner}
        layer |= {name: maker.norm(dim) for name in norms}
        layer |= {"router": maker.matrix(n, dim), "expert_scales": maker.norm(n)}
        layer["experts"] = [{role: maker.matrix(*shape) for role, shape in shapes.items()} for _ in range(n)]


def _add_layer_embeddings(model: dict[str, Any], maker: Maker, size: int, n_rows: int) -> None:
    dim, n_columns = model["hidden_dim"], model["n_layers"] * size
    model |= {"ple_dim": size, "ple_norm": maker.norm(size), "ple_projection_scale": dim**-0.5}
    model["ple_projection"] = maker.matrix(n_columns, dim)
    if n_rows:
        model |= {"ple_scale": TABLE_SCALE, "ple_embedding": maker.matrix(n_rows, n_columns)}
    for layer in model["layers"]:
        layer["ple_gate"], layer["ple_up"] = maker.matrix(size, dim), maker.matrix(dim, size)
        layer["ple_norm"] = maker.norm(dim)


def _add_streams(model: dict[str, Any], maker: Maker, n: int) -> None:
    dim = model["hidden_dim"]
    model["n_streams"] = n
    for role in ("stream_begin", "stream_end"):
        model[role] = [maker.matrix(dim, dim) for _ in range(n - 1)]
    for layer in model["layers"]:
        layer["stream_router"] = maker.numbers(n, dim)
        layer["stream_predict"] = maker.numbers(n, n, n)
        layer["stream_correct"] = maker.numbers(n, n)
        layer["stream_scale"] = maker.norm(dim)
