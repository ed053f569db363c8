"""Gemma 4 text models: dense, with per-layer embeddings (E2B, E4B), with a mixture of experts (26B-A4B), and the text part of
those that see and hear, with encoders or without ("unified").

Layers that see all have fewer and longer heads of keys and values, and some take keys for values; the last layers may read
the keys and values of earlier ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ModelFormatError, UnsupportedModelError
from .kinds import (
    FULL,
    SLIDING,
    SLIDING_THETA,
    causal_sight,
    gguf_head_dim,
    gguf_rows,
    n_layers_of,
    read_gguf_kinds,
    read_kinds,
    read_ropes,
    refuse_foreign,
    shared_kv,
)
from .spec import Experts, LayerEmbedding, LayerSpec, ModelSpec, Rope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoint import Tensor
    from .fields import Fields

MODEL_TYPES = frozenset({"gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"})
GGUF_ARCHITECTURES = frozenset({"gemma4"})

PERIOD = 6
"""Five layers slide, then one sees all."""

ROPES = {SLIDING: Rope(SLIDING_THETA), FULL: Rope(1_000_000.0, turning=0.25)}
"""Where a configuration says nothing."""

STANDS_STILL = 1e10
"""GGUF divides by at least this the frequencies of pairs that do not turn."""


class Heads(NamedTuple):
    """Keys and values of a layer."""

    n_kv: int
    dim: int


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json in today's or the older spelling."""
    refuse_foreign(config)
    if config.get("use_bidirectional_attention") not in {None, False, "vision"}:  # "vision": images do, text does not
        raise UnsupportedModelError(f"{config.source}: a Gemma 4 that sees both ways; mogemma runs those that write.")
    hidden_dim = config.integer("hidden_size", 2304)
    n_layers = n_layers_of(config, "num_hidden_layers", 30)
    kinds = (*read_kinds(config, n_layers, PERIOD)[:-1], FULL)  # the last sees all, whatever is said
    n_shared = config.integer("num_kv_shared_layers", 0, least=0, most=n_layers - 1)
    backs = shared_kv(kinds, n_shared, config.source)
    common = Heads(config.integer("num_key_value_heads", 4), config.integer("head_dim", 256))
    heads = layer_heads(config, kinds, common, is_gated=True)
    ropes = read_ropes(config, ROPES[FULL].theta) if config.has("rope_parameters") else ROPES
    mlp_dim = config.integer("intermediate_size", 9216)
    is_double = config.flag("use_double_wide_mlp", False)
    takes_keys = config.flag("attention_k_eq_v", False)

    def layer(index: int, kind: str) -> LayerSpec:
        return _layer(
            kind,
            heads[index],
            n_heads=config.integer("num_attention_heads", 8),
            mlp_dim=mlp_dim * 2 if is_double and backs[index] else mlp_dim,
            rope=ropes[kind],
            window=config.integer("sliding_window", 512),
            kv_back=backs[index],
            has_values=not (takes_keys and kind == FULL),
            experts=_experts(config),
        )

    # The unified configuration has no such field, and that of the others says 0 where there are none.
    ple_dim = config.integer("hidden_size_per_layer_input", 0 if _is_unified(config) else 256, least=0)
    table = config.integer("vocab_size_per_layer_input", 262144)
    return _model(
        tuple(layer(index, kind) for index, kind in enumerate(kinds)),
        hidden_dim=hidden_dim,
        vocab_size=config.integer("vocab_size", 262144),
        context=config.integer("max_position_embeddings", 131072),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        logit_softcap=config.softcap("final_logit_softcapping", 0.0),
        layer_embedding=table_and_projection(ple_dim, table, hidden_dim) if ple_dim else None,
    )


def describe_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """Translate GGUF metadata. Which layers take keys for values shows in the tensors, and so does which pairs turn."""
    hidden_dim = fields.integer("embedding_length")
    n_layers = n_layers_of(fields, "block_count")
    kinds = read_gguf_kinds(fields, n_layers, PERIOD)
    n_shared = fields.integer("attention.shared_kv_layers", 0, least=0, most=n_layers - 1)
    backs = shared_kv(kinds, n_shared, fields.source)
    dims = {FULL: gguf_head_dim(fields), SLIDING: gguf_head_dim(fields, suffix="_swa")}
    n_kv_heads = fields.integers("attention.head_count_kv", n_layers)
    mlp_dims = fields.integers("feed_forward_length", n_layers)
    ropes = {
        SLIDING: Rope(fields.number("rope.freq_base_swa", SLIDING_THETA, least=1)),
        FULL: Rope(fields.number("rope.freq_base", ROPES[FULL].theta, least=1), turning=_gguf_turning(fields, tensors)),
    }

    def layer(index: int, kind: str) -> LayerSpec:
        return _layer(
            kind,
            Heads(n_kv_heads[index], dims[kind]),
            n_heads=fields.integer("attention.head_count"),
            mlp_dim=mlp_dims[index],
            rope=ropes[kind],
            window=fields.integer("attention.sliding_window"),
            kv_back=backs[index],
            has_values=kind == SLIDING or backs[index] > 0 or f"blk.{index}.attn_v.weight" in tensors,
            experts=_gguf_experts(fields),
        )

    ple_dim = fields.integer("embedding_length_per_layer_input", 0, least=0)
    n_rows = gguf_rows(fields, tensors, "per_layer_token_embd.weight") if ple_dim else 0
    return _model(
        tuple(layer(index, kind) for index, kind in enumerate(kinds)),
        hidden_dim=hidden_dim,
        vocab_size=gguf_rows(fields, tensors, "token_embd.weight"),
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-6),
        logit_softcap=fields.softcap("final_logit_softcapping", 0.0),
        layer_embedding=table_and_projection(ple_dim, n_rows, hidden_dim) if ple_dim else None,
    )


def _layer(
    kind: str,
    heads: Heads,
    *,
    n_heads: int,
    mlp_dim: int,
    rope: Rope,
    window: int,
    kv_back: int,
    has_values: bool,
    experts: Experts | None,
) -> LayerSpec:
    before, after = causal_sight(kind, window)
    return LayerSpec(
        n_heads=n_heads,
        n_kv_heads=heads.n_kv,
        head_dim=heads.dim,
        mlp_dim=mlp_dim,
        rope=rope,
        n_before=before,
        n_after=after,
        attention_scale=1.0,
        kv_back=kv_back,
        has_values=has_values or kv_back > 0,
        experts=experts,
    )


def _model(
    layers: tuple[LayerSpec, ...],
    *,
    hidden_dim: int,
    vocab_size: int,
    context: int,
    norm_epsilon: float,
    logit_softcap: float,
    layer_embedding: LayerEmbedding | None,
) -> ModelSpec:
    return ModelSpec(
        family="gemma4",
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        context=context,
        norm_epsilon=norm_epsilon,
        embedding_scale=math.sqrt(hidden_dim),
        layers=layers,
        logit_softcap=logit_softcap,
        norms_store_offset=False,
        has_v_norms=True,
        has_output_scales=True,
        layer_embedding=layer_embedding,
    )


def table_and_projection(dim: int, n_rows: int, hidden_dim: int) -> LayerEmbedding:
    """Per-layer embeddings that are the mean of a table's and a projection's, times the root of two."""
    return LayerEmbedding(
        dim=dim,
        projection_scale=hidden_dim**-0.5,
        norm_scale=math.sqrt(0.5),
        n_rows=n_rows,
        table_scale=math.sqrt(dim / 2),
    )


def layer_heads(config: Fields, kinds: tuple[str, ...], common: Heads, *, is_gated: bool) -> tuple[Heads, ...]:
    """Keys and values of each layer: those of layers that see all may be listed, or be said for all of them.

    Args:
        common: Those of the other layers.
        is_gated: Whether the older spelling's number of them counts only with `attention_k_eq_v`, and their size is 512 where
            nothing is said.
    """
    if config.has("per_layer_config"):
        listed = config.section("per_layer_config")
        known = {"head_dim", "num_key_value_heads"}
        changes = {int(key): listed.section(key) for key in listed.values if key.isdigit()}
        if len(changes) < len(listed.values) or any(not known.issuperset(one.values) for one in changes.values()):
            raise UnsupportedModelError(
                f"{config.source}: 'per_layer_config' changes more than {', '.join(sorted(known))} of numbered layers."
            )
        own = {
            index: Heads(one.integer("num_key_value_heads", common.n_kv), one.integer("head_dim", common.dim))
            for index, one in changes.items()
        }
        return tuple(own.get(index, common) for index in range(len(kinds)))
    n_kv = config.integer("num_global_key_value_heads", common.n_kv)
    if is_gated and not config.flag("attention_k_eq_v", False):
        n_kv = common.n_kv
    full = Heads(n_kv, config.integer("global_head_dim", 512 if is_gated else common.dim))
    return tuple(full if kind == FULL else common for kind in kinds)


def _is_unified(config: Fields) -> bool:
    return str(config.get("model_type", "")).startswith("gemma4_unified")


def _experts(config: Fields) -> Experts | None:
    if not config.flag("enable_moe_block", False):
        return None
    n = config.integer("num_experts", most=4096)
    return Experts(n, config.integer("top_k_experts", most=n), config.integer("moe_intermediate_size"))


def _gguf_experts(fields: Fields) -> Experts | None:
    n = fields.integer("expert_count", 0, least=0, most=4096)
    if n == 0:
        return None
    return Experts(n, fields.integer("expert_used_count", most=n), fields.integer("expert_feed_forward_length"))


def _gguf_turning(fields: Fields, tensors: Mapping[str, Tensor]) -> float:
    """The share of pairs that turn, from what their frequencies are divided by: 1, or far too much to turn.

    Raises:
        UnsupportedModelError: Others are divided by something else.
    """
    if "rope_freqs.weight" not in tensors:
        return 1.0
    divisors = tensors["rope_freqs.weight"].to_float32().ravel()
    n_turning = int((divisors == 1).sum())
    if not (divisors[:n_turning] == 1).all() or not (divisors[n_turning:] > STANDS_STILL).all() or n_turning == 0:
        raise UnsupportedModelError(
            f"{fields.source}: 'rope_freqs.weight' scales rotations in a way that Gemma 4 does not."
        )
    if 2 * len(divisors) != fields.integer("attention.key_length"):
        raise ModelFormatError(
            f"{fields.source}: 'rope_freqs.weight' has {len(divisors)} numbers, not one for each pair."
        )
    return n_turning / len(divisors)
