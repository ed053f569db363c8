"""Gemma 3n text models (E2B, E4B): four streams of the residual of which layers run on the first (AltUp, arXiv:2301.13310), a
narrow branch beside attention (LAuReL, arXiv:2411.07501), per-layer embeddings, MLPs whose gates are mostly shut in the first
layers, and last layers that read the keys and values of earlier ones.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from .gemma4 import table_and_projection
from .kinds import (
    causal_sight,
    gguf_head_dim,
    gguf_rows,
    n_layers_of,
    read_gguf_kinds,
    read_gguf_ropes,
    read_kinds,
    read_ropes,
    refuse_foreign,
    shared_kv,
)
from .spec import LayerEmbedding, LayerSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoint import Tensor
    from .fields import Fields

MODEL_TYPES = frozenset({"gemma3n", "gemma3n_text"})
GGUF_ARCHITECTURES = frozenset({"gemma3n"})

PERIOD = 5
"""Four layers slide, then one sees all."""

FULL_THETA = 1_000_000.0
LOGIT_CAP = 30.0
N_STREAMS = 4

SPARSITY, N_SPARSE = 0.95, 10
"""Where a configuration says nothing, so much of the gates of so many layers, the first, is shut."""


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json."""
    refuse_foreign(config)
    _check_streams(config, "altup_active_idx")
    if not config.flag("altup_correct_scale", True):
        raise UnsupportedModelError(f"{config.source}: 'altup_correct_scale' is false; no Gemma 3n is so.")
    hidden_dim = config.integer("hidden_size", 2048)
    n_layers = n_layers_of(config, "num_hidden_layers", 35)
    kinds = read_kinds(config, n_layers, PERIOD)
    backs = shared_kv(kinds, config.integer("num_kv_shared_layers", 15, least=0, most=n_layers - 1), config.source)
    mlp_dims = config.integers("intermediate_size", n_layers, 16384)
    cutoffs = _cutoffs(config, n_layers)
    ropes = read_ropes(config, FULL_THETA)
    window = config.integer("sliding_window", 512)

    def layer(index: int, kind: str) -> LayerSpec:
        before, after = causal_sight(kind, window)
        return LayerSpec(
            n_heads=config.integer("num_attention_heads", 8),
            n_kv_heads=config.integer("num_key_value_heads", 2),
            head_dim=config.integer("head_dim", 256),
            mlp_dim=mlp_dims[index],
            rope=ropes[kind],
            n_before=before,
            n_after=after,
            attention_scale=1.0,
            kv_back=backs[index],
            gate_cutoff=cutoffs[index],
        )

    n_rows = config.integer("vocab_size_per_layer_input", 262144)
    return _model(
        tuple(layer(index, kind) for index, kind in enumerate(kinds)),
        hidden_dim=hidden_dim,
        vocab_size=config.integer("vocab_size", 262400),
        context=config.integer("max_position_embeddings", 32768),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        logit_softcap=config.softcap("final_logit_softcapping", LOGIT_CAP),
        n_streams=config.integer("altup_num_inputs", N_STREAMS, least=2, most=N_STREAMS),
        laurel_rank=config.integer("laurel_rank", 64),
        layer_embedding=table_and_projection(config.integer("hidden_size_per_layer_input", 256), n_rows, hidden_dim),
    )


def describe_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """Translate GGUF metadata. LAuReL's rank shows in a shape; cutoffs are as they are used, and -inf where there is none."""
    _check_streams(fields, "altup.active_idx")
    hidden_dim = fields.integer("embedding_length")
    n_layers = n_layers_of(fields, "block_count")
    kinds = read_gguf_kinds(fields, n_layers, PERIOD)
    n_shared = fields.integer("attention.shared_kv_layers", least=0, most=n_layers - 1)
    backs = shared_kv(kinds, n_shared, fields.source)
    mlp_dims = fields.integers("feed_forward_length", n_layers)
    cutoffs = fields.numbers("activation_sparsity_scale", n_layers)
    ropes = read_gguf_ropes(fields, FULL_THETA)
    window = fields.integer("attention.sliding_window")

    def layer(index: int, kind: str) -> LayerSpec:
        before, after = causal_sight(kind, window)
        return LayerSpec(
            n_heads=fields.integer("attention.head_count"),
            n_kv_heads=fields.integer("attention.head_count_kv"),
            head_dim=gguf_head_dim(fields, 256),
            mlp_dim=mlp_dims[index],
            rope=ropes[kind],
            n_before=before,
            n_after=after,
            attention_scale=1.0,
            kv_back=backs[index],
            gate_cutoff=max(cutoffs[index], 0.0),
        )

    ple_dim = fields.integer("embedding_length_per_layer_input")
    n_rows = gguf_rows(fields, tensors, "per_layer_token_embd.weight")
    return _model(
        tuple(layer(index, kind) for index, kind in enumerate(kinds)),
        hidden_dim=hidden_dim,
        vocab_size=gguf_rows(fields, tensors, "token_embd.weight"),
        context=fields.integer("context_length"),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-6),
        logit_softcap=fields.softcap("final_logit_softcapping", LOGIT_CAP),
        n_streams=fields.integer("altup.num_inputs", N_STREAMS, least=2, most=N_STREAMS),
        laurel_rank=gguf_rows(fields, tensors, "blk.0.laurel_l.weight"),
        layer_embedding=table_and_projection(ple_dim, n_rows, hidden_dim),
    )


def _model(
    layers: tuple[LayerSpec, ...],
    *,
    hidden_dim: int,
    vocab_size: int,
    context: int,
    norm_epsilon: float,
    logit_softcap: float,
    n_streams: int,
    laurel_rank: int,
    layer_embedding: LayerEmbedding,
) -> ModelSpec:
    return ModelSpec(
        family="gemma3n",
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        context=context,
        norm_epsilon=norm_epsilon,
        embedding_scale=math.sqrt(hidden_dim),
        layers=layers,
        logit_softcap=logit_softcap,
        norms_store_offset=False,
        has_v_norms=True,
        n_streams=n_streams,
        laurel_rank=laurel_rank,
        layer_embedding=layer_embedding,
    )


def _check_streams(fields: Fields, key: str) -> None:
    if fields.integer(key, 0, least=0) != 0:
        raise UnsupportedModelError(f"{fields.source}: {key!r} is not 0; layers run on the first stream here.")


def _cutoffs(config: Fields, n_layers: int) -> tuple[float, ...]:
    """How many standard deviations above the mean the gate opens, so that of a normal distribution a share is shut."""
    n_sparse = N_SPARSE if n_layers > N_SPARSE else 0
    shut = (SPARSITY,) * n_sparse + (0.0,) * (n_layers - n_sparse)
    if config.has("activation_sparsity_pattern"):
        shut = config.numbers("activation_sparsity_pattern", n_layers)
    if any(share != 0 and not 0.5 < share < 1 for share in shut):
        raise UnsupportedModelError(
            f"{config.source}: 'activation_sparsity_pattern' has shares that are neither 0 nor between 0.5 and 1."
        )
    return tuple(NormalDist().inv_cdf(share) if share else 0.0 for share in shut)
