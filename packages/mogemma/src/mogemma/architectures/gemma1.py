"""Gemma 1 and 1.1, and CodeGemma, which is one: every layer sees all, two norms a layer (arXiv:2403.08295)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from .kinds import (
    ACTIVATION,
    FULL,
    SLIDING_THETA,
    gguf_head_dim,
    gguf_rows,
    n_layers_of,
    read_gguf_ropes,
    read_only_rope,
    refuse_foreign,
)
from .spec import ALL, LayerSpec, ModelSpec, Rope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoint import Tensor
    from .fields import Fields

MODEL_TYPES = frozenset({"gemma"})
GGUF_ARCHITECTURES = frozenset({"gemma"})

OLD_ACTIVATION = "gelu"
"""What the first configurations say and do not mean: the model was trained with the tanh form."""

NAMES = {"mlp_norm": ("post_attention_layernorm.weight", "ffn_norm.weight")}
"""Gemma 1 calls the norm before the MLP what its successors call the one after attention."""


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json."""
    if config.get("hidden_act") != OLD_ACTIVATION:
        config.choice("hidden_act", [ACTIVATION], ACTIVATION)
    refuse_foreign(config)
    if config.flag("use_bidirectional_attention", False):
        raise UnsupportedModelError(f"{config.source}: a Gemma 1 that sees both ways; mogemma runs those that write.")
    head_dim = config.integer("head_dim", 256)
    layer = _layer(
        n_heads=config.integer("num_attention_heads", 16),
        n_kv_heads=config.integer("num_key_value_heads", 16),
        head_dim=head_dim,
        mlp_dim=config.integer("intermediate_size", 24576),
        rope=read_only_rope(config),
    )
    return _model(
        layer,
        n_layers_of(config, "num_hidden_layers", 28),
        hidden_dim=config.integer("hidden_size", 3072),
        vocab_size=config.integer("vocab_size", 256000),
        context=config.integer("max_position_embeddings", 8192),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
    )


def describe_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """Translate GGUF metadata."""
    n_heads = fields.integer("attention.head_count")
    layer = _layer(
        n_heads=n_heads,
        n_kv_heads=fields.integer("attention.head_count_kv", n_heads),
        head_dim=gguf_head_dim(fields, 256),
        mlp_dim=fields.integer("feed_forward_length"),
        rope=read_gguf_ropes(fields, SLIDING_THETA)[FULL],
    )
    return _model(
        layer,
        n_layers_of(fields, "block_count"),
        hidden_dim=fields.integer("embedding_length"),
        vocab_size=gguf_rows(fields, tensors, "token_embd.weight"),
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-6),
    )


def _layer(*, n_heads: int, n_kv_heads: int, head_dim: int, mlp_dim: int, rope: Rope) -> LayerSpec:
    return LayerSpec(
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        mlp_dim=mlp_dim,
        rope=rope,
        n_before=ALL,
        n_after=0,
        attention_scale=head_dim**-0.5,
    )


def _model(
    layer: LayerSpec, n_layers: int, *, hidden_dim: int, vocab_size: int, context: int, norm_epsilon: float
) -> ModelSpec:
    return ModelSpec(
        family="gemma",
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        context=context,
        norm_epsilon=norm_epsilon,
        embedding_scale=math.sqrt(hidden_dim),
        layers=(layer,) * n_layers,
        has_qk_norms=False,
        has_post_norms=False,
        names=NAMES,
    )
