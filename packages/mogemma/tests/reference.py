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
    told = _layer_embeddings(model, x, ids)
    streams = [x, *(_sized(x @ _weights(one).T, x) for one in model.get("stream_begin") or [])]
    kept: list[tuple[Array, Array]] = []
    for index, layer in enumerate(model["layers"]):
        if len(streams) > 1:
            streams = _predict(layer, streams, model["norm_epsilon"])
        x = _layer(model, layer, streams[0], kept)
        if len(streams) > 1:
            streams = _correct(layer, streams, x, model["norm_epsilon"])
            x = streams[0] * layer["stream_scale"]
        if told is not None:
            branch = _gelu(x @ _weights(layer["ple_gate"]).T) * told[:, index]
            branch = _norm(branch @ _weights(layer["ple_up"]).T, layer["ple_norm"], model["norm_epsilon"])
            x = x + branch
            streams = [streams[0], *(stream + branch for stream in streams[1:])]
        if len(streams) == 1:
            streams = [x * (layer.get("output_scale") or 1)]
    ends = [streams[0]]
    ends += [
        _sized(h @ _weights(one).T, streams[0])
        for h, one in zip(streams[1:], model.get("stream_end") or [], strict=True)
    ]
    return _norm(np.mean(ends, axis=0), model["final_norm"], model["norm_epsilon"])


def _layer(model: Mapping[str, Any], layer: Mapping[str, Any], x: Array, kept: list[tuple[Array, Array]]) -> Array:
    """Attention and MLP; `kept` gets the layer's keys and values."""
    epsilon = model["norm_epsilon"]
    n = _norm(x, layer["attention_norm"], epsilon)
    joined = x + _norm(_attention(model, layer, n, kept), layer.get("post_attention_norm"), epsilon)
    if "laurel_left" in layer:
        narrow = n @ _weights(layer["laurel_left"]).T @ _weights(layer["laurel_right"]).T
        joined = (joined + n + _norm(narrow, layer["laurel_norm"], epsilon)) * layer["laurel_scale"]
    branch = _mlp(layer, _norm(joined, layer["mlp_norm"], epsilon), layer.get("gate_cutoff", 0))
    if layer.get("n_experts"):
        sum_of_experts = _norm(_experts(layer, joined, epsilon), layer["post_expert_norm"], epsilon)
        branch = _norm(branch, layer["post_dense_norm"], epsilon) + sum_of_experts
    return joined + _norm(branch, layer.get("post_mlp_norm"), epsilon)


def _layer_embeddings(model: Mapping[str, Any], x: Array, ids: NDArray[Any]) -> Array | None:
    """[tokens, n_layers, ple_dim]."""
    if not model.get("ple_dim"):
        return None
    projected = x @ _weights(model["ple_projection"]).T * model["ple_projection_scale"]
    told: Array = _norm(projected.reshape(len(x), -1, model["ple_dim"]), model["ple_norm"], model["norm_epsilon"])
    if "ple_embedding" in model:
        table = _weights(model["ple_embedding"])
        told = told + table[np.where(ids < len(table), ids, 0)].reshape(told.shape) * model["ple_scale"]
    return told


def _experts(layer: Mapping[str, Any], x: Array, epsilon: float) -> Array:
    """The sum of a token's experts, by a softmax over all of them."""
    scores = _norm(x, layer["router_norm"], epsilon) @ _weights(layer["router"]).T
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    normed = _norm(x, layer["expert_norm"], epsilon)
    result = np.zeros_like(x)
    for token, row in enumerate(shares):
        best = np.argsort(-row, kind="stable")[: layer["n_experts_used"]]
        for e in best:
            share = row[e] / row[best].sum() * layer["expert_scales"][e]
            result[token] += share * _mlp(layer["experts"][e], normed[token : token + 1], 0)[0]
    return result


def _modality(layer: Mapping[str, Any], x: Array, epsilon: float) -> Array:
    result: Array = np.tanh(_norm(x, 1, epsilon) @ layer["stream_router"].T.astype(np.float64))
    return result


def _predict(layer: Mapping[str, Any], streams: list[Array], epsilon: float) -> list[Array]:
    n = len(streams)
    mixing = np.einsum("oic,tc->oit", layer["stream_predict"].reshape(n, n, n), _modality(layer, streams[0], epsilon))
    return [streams[o] + sum(mixing[o, i][:, None] * streams[i] for i in range(n)) for o in range(n)]


def _correct(layer: Mapping[str, Any], streams: list[Array], x: Array, epsilon: float) -> list[Array]:
    shares = _modality(layer, x, epsilon) @ layer["stream_correct"].reshape(len(streams), -1).T + 1
    return [h + shares[:, k : k + 1] * (x - streams[0]) for k, h in enumerate(streams)]


def _sized(x: Array, like: Array) -> Array:
    """Brought to the root mean square of another."""
    power = np.maximum((x**2).mean(axis=-1, keepdims=True), 1e-5)
    result: Array = x * np.sqrt((like**2).mean(axis=-1, keepdims=True) / power)
    return result


def logits(model: Mapping[str, Any], token_ids: Sequence[int] | NDArray[Any]) -> Array:
    """[tokens, vocab_size]."""
    return _softcap(hidden_states(model, token_ids) @ _weights(model["head"]).T, model["logit_softcap"])


def embedding(model: Mapping[str, Any], token_ids: Sequence[int] | NDArray[Any]) -> Array:
    """The mean hidden state, through the dense matrices, at unit length."""
    pooled: Array = hidden_states(model, token_ids).mean(axis=0)
    for matrix in model["dense"] or []:
        pooled = _weights(matrix) @ pooled
    return pooled / math.sqrt((pooled**2).sum())


def _attention(model: Mapping[str, Any], layer: Mapping[str, Any], x: Array, kept: list[tuple[Array, Array]]) -> Array:
    n, dim, epsilon = len(x), layer["head_dim"], model["norm_epsilon"]
    frequencies = model["ropes"][layer["rope"]]["frequencies"]

    def heads(role: str) -> Array:
        return (x @ _weights(layer[role]).T).reshape(n, -1, dim)

    q = _rotate(_norm(heads("q_proj"), layer.get("q_norm"), epsilon), frequencies)
    if back := layer.get("kv_back", 0):
        k, v = kept[-back]
    else:
        k = heads("k_proj")
        v = _norm(heads("v_proj") if "v_proj" in layer else k, layer.get("v_norm"), epsilon)
        k = _rotate(_norm(k, layer.get("k_norm"), epsilon), frequencies)
    kept.append((k, v))
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


def _mlp(layer: Mapping[str, Any], x: Array, cutoff: float) -> Array:
    gate, up = x @ _weights(layer["gate_proj"]).T, x @ _weights(layer["up_proj"]).T
    if cutoff > 0:
        least = gate.mean(axis=1, keepdims=True) + cutoff * gate.std(axis=1, keepdims=True)
        gate = np.maximum(gate - least, 0)
    result: Array = (_gelu(gate) * up) @ _weights(layer["down_proj"]).T
    return result


def _gelu(x: Array) -> Array:
    result: Array = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
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
