"""Gemma 3 text models, and EmbeddingGemma, which is one that sees both ways (arXiv:2503.19786, arXiv:2509.20354)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .kinds import (
    FULL,
    causal_sight,
    gguf_head_dim,
    gguf_rows,
    n_layers_of,
    read_gguf_kinds,
    read_gguf_ropes,
    read_kinds,
    read_ropes,
    refuse_foreign,
)
from .spec import ALL, LayerSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoint import Tensor
    from .fields import Fields

MODEL_TYPES = frozenset({"gemma3", "gemma3_text", "shieldgemma2"})
GGUF_ARCHITECTURES = frozenset({"gemma3", "gemma-embedding"})

PERIOD = 6
"""Five layers slide, then one sees all."""

FULL_THETA = 1_000_000.0

_27B_LAYERS = 62


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json in today's or the older spelling: five sliding layers, then one that sees all."""
    hidden_dim = config.integer("hidden_size", 2304)
    n_layers = n_layers_of(config, "num_hidden_layers", 26)
    head_dim = config.integer("head_dim", 256)
    window = config.integer("sliding_window", 4096)
    ropes = read_ropes(config, FULL_THETA)
    refuse_foreign(config)
    sees_both_ways = config.flag("use_bidirectional_attention", False)

    def layer(kind: str) -> LayerSpec:
        before, after = _sight(kind, window, sees_both_ways)
        return LayerSpec(
            n_heads=config.integer("num_attention_heads", 8),
            n_kv_heads=config.integer("num_key_value_heads", 4),
            head_dim=head_dim,
            mlp_dim=config.integer("intermediate_size", 9216),
            rope=ropes[kind],
            n_before=before,
            n_after=after,
            attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        )

    return ModelSpec(
        family="embeddinggemma" if sees_both_ways else "gemma3",
        hidden_dim=hidden_dim,
        vocab_size=config.integer("vocab_size", 262208),
        context=config.integer("max_position_embeddings", 131072),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        embedding_scale=math.sqrt(hidden_dim),
        layers=tuple(map(layer, read_kinds(config, n_layers, PERIOD))),
        logit_softcap=config.number("final_logit_softcapping", 0.0, or_zero=True),
    )


def describe_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """Translate GGUF metadata. It has no attention scale: 1 / sqrt(head_dim) in all sizes but 27B."""
    hidden_dim = fields.integer("embedding_length")
    n_layers = n_layers_of(fields, "block_count")
    n_heads = fields.integer("attention.head_count")
    head_dim = gguf_head_dim(fields, 256)
    sees_both_ways = fields.prefix.startswith("gemma-embedding") or not fields.flag("attention.causal", True)
    ropes = read_gguf_ropes(fields, FULL_THETA)
    window = fields.integer("attention.sliding_window")

    def layer(kind: str) -> LayerSpec:
        before, after = _sight(kind, window, sees_both_ways)
        return LayerSpec(
            n_heads=n_heads,
            n_kv_heads=fields.integer("attention.head_count_kv"),
            head_dim=head_dim,
            mlp_dim=fields.integer("feed_forward_length"),
            rope=ropes[kind],
            n_before=before,
            n_after=after,
            attention_scale=(hidden_dim / n_heads if n_layers == _27B_LAYERS else head_dim) ** -0.5,
        )

    return ModelSpec(
        family="embeddinggemma" if sees_both_ways else "gemma3",
        hidden_dim=hidden_dim,
        vocab_size=gguf_rows(fields, tensors, "token_embd.weight"),
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-6),
        embedding_scale=math.sqrt(hidden_dim),
        layers=tuple(map(layer, read_gguf_kinds(fields, n_layers, PERIOD))),
        logit_softcap=fields.number("final_logit_softcapping", 0.0, or_zero=True),
    )


def _sight(kind: str, window: int, sees_both_ways: bool) -> tuple[int, int]:
    """Keys that a query sees before and after itself.

    EmbeddingGemma's window is its full width, half of which it reaches to either side.
    """
    if sees_both_ways:
        return (ALL, ALL) if kind == FULL else (window // 2, window // 2)
    return causal_sight(kind, window)
