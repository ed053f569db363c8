"""Gemma 3 text models, and EmbeddingGemma, which is one that sees both ways (arXiv:2503.19786, arXiv:2509.20354)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ModelFormatError, UnsupportedModelError
from .spec import ALL, LayerSpec, ModelSpec, Rope

if TYPE_CHECKING:
    from .fields import Fields

MODEL_TYPES = frozenset({"gemma3", "gemma3_text"})
GGUF_ARCHITECTURES = frozenset({"gemma3", "gemma-embedding"})

ACTIVATION = "gelu_pytorch_tanh"
ROPE_KINDS = ("default", "linear")
GGUF_ROPE_KINDS = ("none", "linear")

SLIDING, FULL = "sliding_attention", "full_attention"
KINDS = frozenset({SLIDING, FULL})

_27B_LAYERS = 62


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json in today's or the older spelling: five sliding layers, then one that sees all."""
    hidden_dim = config.integer("hidden_size", 2304)
    n_layers = config.integer("num_hidden_layers", 26, most=4096)
    head_dim = config.integer("head_dim", 256)
    window = config.integer("sliding_window", 4096)
    ropes = _ropes(config)
    config.choice("hidden_activation", [ACTIVATION], ACTIVATION)
    if config.flag("attention_bias", False):
        raise UnsupportedModelError(f"{config.source}: 'attention_bias' is true; no Gemma 3 has biases.")
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
        layers=tuple(map(layer, _kinds(config, n_layers))),
        logit_softcap=config.number("final_logit_softcapping", 0.0, or_zero=True),
    )


def describe_gguf(fields: Fields, *, vocab_size: int) -> ModelSpec:
    """Translate GGUF metadata. It has no attention scale: 1 / sqrt(head_dim) in all sizes but 27B."""
    hidden_dim = fields.integer("embedding_length")
    n_layers = fields.integer("block_count", most=4096)
    n_heads = fields.integer("attention.head_count")
    head_dim = fields.integer("attention.key_length", 256)
    if fields.integer("attention.value_length", head_dim) != head_dim:
        raise ModelFormatError(f"{fields.source}: keys and values of different lengths; Gemma 3 has the same.")
    sees_both_ways = fields.prefix.startswith("gemma-embedding") or not fields.flag("attention.causal", True)
    is_scaled = fields.choice("rope.scaling.type", GGUF_ROPE_KINDS, "none") == "linear"
    factor = fields.number("rope.scaling.factor", 1.0, least=1) if is_scaled else 1.0
    ropes = {
        SLIDING: Rope(fields.number("rope.freq_base_swa", 10_000.0, least=1)),
        FULL: Rope(fields.number("rope.freq_base", 1_000_000.0, least=1), factor),
    }
    window = fields.integer("attention.sliding_window")

    def layer(index: int) -> LayerSpec:
        kind = FULL if (index + 1) % 6 == 0 else SLIDING
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
        vocab_size=vocab_size,
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-6),
        embedding_scale=math.sqrt(hidden_dim),
        layers=tuple(map(layer, range(n_layers))),
        logit_softcap=fields.number("final_logit_softcapping", 0.0, or_zero=True),
    )


def _sight(kind: str, window: int, sees_both_ways: bool) -> tuple[int, int]:
    """Keys that a query sees before and after itself.

    A causal window of W holds W keys, the query's own among them. EmbeddingGemma's W is the full width of a window that
    reaches W / 2 to either side.
    """
    if sees_both_ways:
        return (ALL, ALL) if kind == FULL else (window // 2, window // 2)
    return (ALL, 0) if kind == FULL else (window - 1, 0)


def _kinds(config: Fields, n_layers: int) -> tuple[str, ...]:
    if config.has("layer_types"):
        return config.names("layer_types", KINDS, n_layers)
    pattern = config.integer("sliding_window_pattern", config.integer("_sliding_window_pattern", 6))
    return tuple(SLIDING if (index + 1) % pattern else FULL for index in range(n_layers))


def _ropes(config: Fields) -> Mapping[str, Rope]:
    if config.has("rope_parameters"):
        both = config.section("rope_parameters")
        return {kind: _rope(both.section(kind), 10_000.0 if kind == SLIDING else 1_000_000.0) for kind in KINDS}
    theta = config.number("rope_theta", 1_000_000.0, least=1)
    full = _rope(config.section("rope_scaling"), theta) if config.has("rope_scaling") else Rope(theta)
    return {SLIDING: Rope(config.number("rope_local_base_freq", 10_000.0, least=1)), FULL: full}


def _rope(fields: Fields, theta: float) -> Rope:
    kind = fields.choice("rope_type" if fields.has("rope_type") else "type", ROPE_KINDS, "default")
    factor = fields.number("factor", least=1) if kind == "linear" else 1.0
    return Rope(fields.number("rope_theta", theta, least=1), factor)
