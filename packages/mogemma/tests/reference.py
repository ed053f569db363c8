"""Gemma's forward pass in plain numpy, in float64: what the kernels are held to where there is no golden output.

It takes a model as a mapping of `mogemma_model`'s fields, or reads one from safetensors without the package's own readers.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from blocks import weights_of
from checkpoints import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

ALL = 2**31 - 1


def hidden_states(model: Mapping[str, Any], token_ids: Sequence[int] | NDArray[Any]) -> Array:
    """The residuals after the last layer and the final norm, [tokens, hidden_dim]."""
    ids = np.asarray(token_ids)
    x = _weights(model["token_embedding"])[ids] * model["embedding_scale"]
    epsilon = model["norm_epsilon"]
    for layer in model["layers"]:
        branch = _attention(model, layer, _norm(x, layer["attention_norm"], epsilon))
        x = x + _norm(branch, layer["post_attention_norm"], epsilon)
        branch = _mlp(layer, _norm(x, layer["mlp_norm"], epsilon))
        x = x + _norm(branch, layer["post_mlp_norm"], epsilon)
    return _norm(x, model["final_norm"], epsilon)


def logits(model: Mapping[str, Any], token_ids: Sequence[int] | NDArray[Any]) -> Array:
    """[tokens, vocab_size]."""
    return _softcap(hidden_states(model, token_ids) @ _weights(model["head"]).T, model["logit_softcap"])


def embedding(model: Mapping[str, Any], token_ids: Sequence[int] | NDArray[Any]) -> Array:
    """The mean hidden state, through the dense matrices, at unit length."""
    pooled: Array = hidden_states(model, token_ids).mean(axis=0)
    for matrix in model["dense"] or []:
        pooled = _weights(matrix) @ pooled
    return pooled / math.sqrt((pooled**2).sum())


def _attention(model: Mapping[str, Any], layer: Mapping[str, Any], x: Array) -> Array:
    n, dim = len(x), layer["head_dim"]
    frequencies = model["ropes"][layer["rope"]]["frequencies"]

    def heads(role: str, norm: Any) -> Array:
        each = (x @ _weights(layer[role]).T).reshape(n, -1, dim)
        return _rotate(_norm(each, norm, model["norm_epsilon"]), frequencies)

    q, k = heads("q_proj", layer["q_norm"]), heads("k_proj", layer["k_norm"])
    v = (x @ _weights(layer["v_proj"]).T).reshape(n, -1, dim)
    group = layer["n_heads"] // layer["n_kv_heads"]
    scores = np.einsum("qhd,khd->hqk", q, np.repeat(k, group, axis=1)) * layer["attention_scale"]
    scores = _softcap(scores, layer["attention_softcap"])
    distance = np.arange(n)[:, None] - np.arange(n)
    is_seen = (distance <= layer["n_before"]) & (-distance <= layer["n_after"])
    scores = np.where(is_seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    attended = np.einsum("hqk,khd->qhd", weights, np.repeat(v, group, axis=1)).reshape(n, -1)
    result: Array = attended @ _weights(layer["o_proj"]).T
    return result


def _mlp(layer: Mapping[str, Any], x: Array) -> Array:
    gate, up = x @ _weights(layer["gate_proj"]).T, x @ _weights(layer["up_proj"]).T
    gelu = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    result: Array = (gelu * up) @ _weights(layer["down_proj"]).T
    return result


def _norm(x: Array, weight: Any, epsilon: float) -> Array:
    """RMSNorm over the last axis; no weight: no norm."""
    return x if weight is None else x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * weight


def _rotate(heads: Array, frequencies: NDArray[np.float32]) -> Array:
    """RoPE of [tokens, heads, dim] at positions 0, 1, 2 ...; angles in float32, as in the reference implementation."""
    angles = (np.arange(len(heads), dtype=np.float32)[:, None] * frequencies).astype(np.float64)[:, None]
    a, b = np.split(heads, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _softcap(x: Array, cap: float) -> Array:
    return cap * np.tanh(x / cap) if cap > 0 else x


def _weights(matrix: Mapping[str, Any]) -> Array:
    return weights_of(matrix).astype(np.float64)


def read_gemma3(folder: Path) -> dict[str, Any]:
    """A Gemma 3 text model in safetensors, with the config.json of transformers 5."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = _read(folder / "model.safetensors")
    dim, theta = config["head_dim"], config["rope_parameters"]
    kinds = ("sliding_attention", "full_attention")

    def matrix(name: str) -> dict[str, Any]:
        x = tensors[f"{name}.weight"]
        return {"data": x, "n_rows": len(x), "n_columns": x.shape[1], "format": 0}

    def norm(name: str) -> Any:
        return 1 + tensors[f"{name}.weight"]

    def layer(index: int, kind: str) -> dict[str, Any]:
        at, window, is_full = f"layers.{index}.", config["sliding_window"], kind == "full_attention"
        sees_both_ways = config["use_bidirectional_attention"]
        before = ALL if is_full else window // 2 if sees_both_ways else window - 1
        return {
            "attention_norm": norm(f"{at}input_layernorm"),
            "q_norm": norm(f"{at}self_attn.q_norm"),
            "k_norm": norm(f"{at}self_attn.k_norm"),
            "post_attention_norm": norm(f"{at}post_attention_layernorm"),
            "mlp_norm": norm(f"{at}pre_feedforward_layernorm"),
            "post_mlp_norm": norm(f"{at}post_feedforward_layernorm"),
            **{f"{x}_proj": matrix(f"{at}self_attn.{x}_proj") for x in "qkvo"},
            **{f"{x}_proj": matrix(f"{at}mlp.{x}_proj") for x in ("gate", "up", "down")},
            "n_heads": config["num_attention_heads"],
            "n_kv_heads": config["num_key_value_heads"],
            "head_dim": dim,
            "rope": kinds.index(kind),
            "n_before": before,
            "n_after": before if sees_both_ways else 0,
            "attention_scale": config["query_pre_attn_scalar"] ** -0.5,
            "attention_softcap": 0.0,
        }

    def frequencies(kind: str) -> NDArray[np.float32]:
        base, factor = theta[kind]["rope_theta"], theta[kind].get("factor", 1.0)
        numbers: Array = base ** (-np.arange(0, dim, 2) / dim) / factor
        return numbers.astype(np.float32)

    dense = sorted(path for path in folder.glob("*_Dense") if path.is_dir())
    heads = [_read(path / "model.safetensors")["linear.weight"] for path in dense]
    return {
        "norm_epsilon": config["rms_norm_eps"],
        "embedding_scale": config["hidden_size"] ** 0.5,
        "logit_softcap": config["final_logit_softcapping"] or 0.0,
        "layers": [layer(index, kind) for index, kind in enumerate(config["layer_types"])],
        "ropes": [{"frequencies": frequencies(kind)} for kind in kinds],
        "dense": [{"data": x, "n_rows": len(x), "n_columns": x.shape[1], "format": 0} for x in heads],
        "final_norm": norm("norm"),
        "token_embedding": matrix("embed_tokens"),
        "head": matrix("lm_head" if "lm_head.weight" in tensors else "embed_tokens"),
    }


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    numbers = {"F32": 0, "F16": 1, "BF16": 30}
    tensors = {}
    for name, (kind, shape, data) in read_safetensors(path).items():
        row = {"format": numbers[kind], "data": data, "n_rows": 1, "n_columns": math.prod(shape)}
        tensors[name.removeprefix("model.")] = weights_of(row).reshape(shape)
    return tensors
