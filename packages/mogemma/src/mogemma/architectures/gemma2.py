"""Gemma 2, and what shares its architecture (ShieldGemma, DataGemma, TxGemma): soft caps, every second layer slides
(arXiv:2408.00118).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from .kinds import (
    FULL,
    SLIDING_THETA,
    causal_sight,
    gguf_head_dim,
    gguf_rows,
    n_layers_of,
    read_gguf_kinds,
    read_gguf_ropes,
    read_kinds,
    read_only_rope,
    refuse_foreign,
)
from .spec import LayerSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoint import Tensor
    from .fields import Fields

MODEL_TYPES = frozenset({"gemma2"})
GGUF_ARCHITECTURES = frozenset({"gemma2"})

PERIOD = 2
"""The first layer slides, the second sees all, and so on."""

ATTENTION_CAP, LOGIT_CAP = 50.0, 30.0

_27B_LAYERS = 46


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json in today's or the older spelling."""
    refuse_foreign(config)
    if config.flag("use_bidirectional_attention", False):
        raise UnsupportedModelError(f"{config.source}: a Gemma 2 that sees both ways; mogemma runs those that write.")
    hidden_dim = config.integer("hidden_size", 2304)
    n_layers = n_layers_of(config, "num_hidden_layers", 26)
    window = config.integer("sliding_window", 4096)
    rope = read_only_rope(config)

    def layer(kind: str) -> LayerSpec:
        before, after = causal_sight(kind, window)
        return LayerSpec(
            n_heads=config.integer("num_attention_heads", 8),
            n_kv_heads=config.integer("num_key_value_heads", 4),
            head_dim=config.integer("head_dim", 256),
            mlp_dim=config.integer("intermediate_size", 9216),
            rope=rope,
            n_before=before,
            n_after=after,
            attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
            attention_softcap=config.softcap("attn_logit_softcapping", ATTENTION_CAP),
        )

    return ModelSpec(
        family="gemma2",
        hidden_dim=hidden_dim,
        vocab_size=config.integer("vocab_size", 256000),
        context=config.integer("max_position_embeddings", 8192),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        embedding_scale=math.sqrt(hidden_dim),
        layers=tuple(map(layer, read_kinds(config, n_layers, PERIOD))),
        logit_softcap=config.softcap("final_logit_softcapping", LOGIT_CAP),
        has_qk_norms=False,
    )


def describe_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """Translate GGUF metadata. It has no attention scale: 1 / sqrt(head_dim) in all sizes but 27B."""
    hidden_dim = fields.integer("embedding_length")
    n_layers = n_layers_of(fields, "block_count")
    n_heads = fields.integer("attention.head_count")
    head_dim = gguf_head_dim(fields, 256)
    window = fields.integer("attention.sliding_window", 4096)
    rope = read_gguf_ropes(fields, SLIDING_THETA)[FULL]

    def layer(kind: str) -> LayerSpec:
        before, after = causal_sight(kind, window)
        return LayerSpec(
            n_heads=n_heads,
            n_kv_heads=fields.integer("attention.head_count_kv", n_heads),
            head_dim=head_dim,
            mlp_dim=fields.integer("feed_forward_length"),
            rope=rope,
            n_before=before,
            n_after=after,
            attention_scale=(hidden_dim / n_heads if n_layers == _27B_LAYERS else head_dim) ** -0.5,
            attention_softcap=fields.softcap("attn_logit_softcapping", ATTENTION_CAP),
        )

    return ModelSpec(
        family="gemma2",
        hidden_dim=hidden_dim,
        vocab_size=gguf_rows(fields, tensors, "token_embd.weight"),
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-6),
        embedding_scale=math.sqrt(hidden_dim),
        layers=tuple(map(layer, read_gguf_kinds(fields, n_layers, PERIOD))),
        logit_softcap=fields.softcap("final_logit_softcapping", LOGIT_CAP),
        has_qk_norms=False,
    )
