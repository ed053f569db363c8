"""EmbeddingGemma 2: Gemma 4's layers seeing both ways, per-layer embeddings without a table, and one dense head. No converter to
GGUF is known.

The head comes before the mean in the published model; being linear and without a bias it may as well come after it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from .gemma4 import Heads, layer_heads
from .kinds import FULL, n_layers_of, read_kinds, read_ropes, refuse_foreign
from .spec import ALL, LayerEmbedding, LayerSpec, ModelSpec

if TYPE_CHECKING:
    from .fields import Fields

MODEL_TYPES = frozenset({"embedding_gemma2", "embedding_gemma2_text"})
PERIOD = 6

FULL_THETA = 1_000_000.0

NAMES = {
    "ple_projection": ("ple.per_layer_model_projection.weight", ""),
    "ple_model_norm": ("ple.per_layer_projection_norm.weight", ""),
    "ple_gate": ("ple_block.per_layer_input_gate.weight", ""),
    "ple_up": ("ple_block.per_layer_projection.weight", ""),
    "ple_norm": ("ple_block.post_per_layer_input_norm.weight", ""),
}

UNUSED = ("attention_k_eq_v", "enable_moe_block", "use_double_wide_mlp")
"""Of Gemma 4's configuration; no EmbeddingGemma 2 has them."""


def describe(config: Fields) -> ModelSpec:
    """Translate a config.json."""
    refuse_foreign(config)
    for key in UNUSED:
        if config.flag(key, False):
            raise UnsupportedModelError(f"{config.source}: {key!r} is true; no EmbeddingGemma 2 is so.")
    if config.integer("num_kv_shared_layers", 0, least=0) > 0:
        raise UnsupportedModelError(
            f"{config.source}: layers that share keys and values; no EmbeddingGemma 2 has such."
        )
    config.section("rope_parameters")  # what is left out has changed its meaning, so nothing is guessed
    hidden_dim = config.integer("hidden_size", 512)
    kinds = (*read_kinds(config, n_layers_of(config, "num_hidden_layers", 24), PERIOD)[:-1], FULL)
    common = Heads(config.integer("num_key_value_heads", 2), config.integer("head_dim", 256))
    heads = layer_heads(config, kinds, common, is_gated=False)
    ropes = read_ropes(config, FULL_THETA)
    radius = _radius(config)

    def layer(index: int, kind: str) -> LayerSpec:
        sight = ALL if kind == FULL else radius
        return LayerSpec(
            n_heads=config.integer("num_attention_heads", 4),
            n_kv_heads=heads[index].n_kv,
            head_dim=heads[index].dim,
            mlp_dim=config.integer("intermediate_size", 2048),
            rope=ropes[kind],
            n_before=sight,
            n_after=sight,
            attention_scale=1.0,
        )

    return ModelSpec(
        family="embeddinggemma2",
        hidden_dim=hidden_dim,
        vocab_size=config.integer("vocab_size", 262144),
        context=config.integer("max_position_embeddings"),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        embedding_scale=math.sqrt(hidden_dim),
        layers=tuple(layer(index, kind) for index, kind in enumerate(kinds)),
        norms_store_offset=False,
        has_v_norms=True,
        has_output_scales=True,
        layer_embedding=LayerEmbedding(
            dim=config.integer("hidden_size_per_layer_input", 512), projection_scale=hidden_dim**-0.5
        ),
        projection_dim=config.integer("embedding_dim", 768),
        names=NAMES,
    )


def _radius(config: Fields) -> int:
    """Keys that a query sees on either side of itself: the window, but half of it where it is said to see `all`.

    The first version of the library that wrote these files called the same radius by twice its size.
    """
    window = config.integer("sliding_window")
    return window // 2 if config.get("use_bidirectional_attention") == "all" else window
