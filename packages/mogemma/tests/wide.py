"""Copies of the tiny models, as wide as the blocks of every format: random weights, the same layers and tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from blocks import Floats
    from checkpoints import Stored

WIDE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def write_wide(folder: Path, *, embeds: bool = False, **config: Any) -> Path:
    """A model folder; `config` are further changes to config.json."""
    source = EMBEDDING_GEMMA if embeds else GEMMA
    fields = {**WIDE, **config}
    sizes = {"hidden": fields["hidden_size"], "mlp": fields["intermediate_size"]}
    sizes["q"] = fields["num_attention_heads"] * fields["head_dim"]
    sizes["kv"] = fields["num_key_value_heads"] * fields["head_dim"]
    sizes["head"] = fields["head_dim"]
    copy_folder(source, folder, fields, tensors=lambda stored: _widened(stored, sizes))
    if embeds:
        for index, shape in ((2, (320, sizes["hidden"])), (3, (sizes["hidden"], 320))):
            weights = np.random.default_rng(index).standard_normal(shape, np.float32) * np.float32(0.0625)
            write_safetensors(folder / f"{index}_Dense" / "model.safetensors", {"linear.weight": _stored(weights)})
    return folder


def _widened(stored: Stored, sizes: dict[str, int]) -> Stored:
    rng = np.random.default_rng(7)
    return {name: _stored(_weights(rng, name, shape, sizes)) for name, (_, shape, _) in stored.items()}


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...], sizes: dict[str, int]) -> Floats:
    if len(shape) == 1:
        size = sizes["head"] if "q_norm" in name or "k_norm" in name else sizes["hidden"]
        return rng.standard_normal(size, np.float32) * np.float32(0.125)
    if "embed_tokens" in name:
        return _exact_everywhere(rng, shape[0], sizes["hidden"])
    role = name.split(".")[-2]
    rows = {"q_proj": "q", "k_proj": "kv", "v_proj": "kv", "gate_proj": "mlp", "up_proj": "mlp"}.get(role, "hidden")
    columns = {"o_proj": "q", "down_proj": "mlp"}.get(role, "hidden")
    scale = np.float32(1 / np.sqrt(sizes[columns]))
    return rng.standard_normal((sizes[rows], sizes[columns]), np.float32) * scale


def _exact_everywhere(rng: np.random.Generator, n_rows: int, n_columns: int) -> Floats:
    """Numbers that Q8_0, bfloat16 and float16 all hold: bytes, of each 32 the first the greatest, times a power of two."""
    q = rng.integers(-126, 127, (n_rows, n_columns))
    q[:, ::32] = 127
    return q.astype(np.float32) / np.float32(1024)


def _stored(weights: Floats) -> tuple[str, tuple[int, ...], bytes]:
    return "F32", weights.shape, weights.astype("<f4").tobytes()
