"""Configurations of Gemma 3 and EmbeddingGemma, in every spelling, to the numbers that the kernels take."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from configurations import vocabulary

from mogemma.architectures import read_spec
from mogemma.architectures.fields import Fields
from mogemma.architectures.gemma3 import describe, describe_gguf
from mogemma.architectures.spec import ALL, ModelSpec, Rope
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALL: dict[str, Any] = {
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "sliding_window": 512,
    "max_position_embeddings": 32768,
    "vocab_size": 262144,
}
"""Gemma 3 270M."""

SMALL_GGUF: dict[str, Any] = {
    "embedding_length": 640,
    "block_count": 18,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "feed_forward_length": 2048,
    "attention.sliding_window": 512,
    "context_length": 32768,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1e6,
}

# The text_config of the published multimodal models: what is left out is the default of their library.
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "4B": ({"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}, 256),
    "12B": (
        {
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
        },
        256,
    ),
    "27B": (
        {
            "hidden_size": 5376,
            "intermediate_size": 21504,
            "num_hidden_layers": 62,
            "num_attention_heads": 32,
            "num_key_value_heads": 16,
            "head_dim": 128,
            "query_pre_attn_scalar": 168,
        },
        168,
    ),
}
SCALED = {"sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}


def from_config(**changes: Any) -> ModelSpec:
    fields = {key: value for key, value in {**SMALL, **changes}.items() if value is not ...}
    return describe(Fields(fields, Path("config.json")))


def from_gguf(changes: Mapping[str, Any] | None = None, *, architecture: str = "gemma3") -> ModelSpec:
    values = {**SMALL_GGUF, **(changes or {})}
    fields = {f"{architecture}.{key}": value for key, value in values.items() if value is not ...}
    return describe_gguf(Fields(fields, Path("model.gguf"), f"{architecture}."), vocabulary(262144))


def test_config_and_gguf_of_a_model_say_the_same() -> None:
    assert from_gguf() == from_config()


@pytest.mark.parametrize("case", ["gemma3-text", "embeddinggemma"])
def test_the_files_of_a_tiny_model_say_the_same(data_path: Path, case: str) -> None:
    folder = data_path / "tiny" / case
    with open_checkpoint(folder) as safetensors, open_checkpoint(folder / "model.gguf") as gguf:
        spec = read_spec(safetensors)
        assert read_spec(gguf) == replace(spec, norm_epsilon=float(np.float32(spec.norm_epsilon)))


def test_the_older_spelling_says_the_same(data_path: Path) -> None:
    folder = data_path / "tiny" / "gemma3-text"
    new, old = (
        describe(Fields(json.loads((folder / name).read_text(encoding="utf-8")), folder / name))
        for name in ("config.json", "config.legacy.json")
    )
    assert old == new


def test_gemma_3_270m_is_eighteen_layers_of_which_three_see_all() -> None:
    spec = from_config()
    assert [index for index, layer in enumerate(spec.layers) if layer.n_before == ALL] == [5, 11, 17]
    assert {layer.n_before for layer in spec.layers} == {511, ALL}, "a window of 512 is the query and 511 before it"
    assert {layer.n_after for layer in spec.layers} == {0}
    assert spec.is_causal
    assert spec.family == "gemma3"
    assert spec.embedding_scale == math.sqrt(640)
    assert spec.layers[0].rope == Rope(1e4)
    assert spec.layers[5].rope == Rope(1e6)
    assert spec.layers[0].attention_scale == 1 / 16
    assert (spec.logit_softcap, spec.layers[0].attention_softcap) == (0, 0)


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_configurations_leave_out_what_is_the_default(size: str) -> None:
    config, scalar = PUBLISHED[size]
    spec = describe(Fields({**config, **SCALED}, Path("config.json")))
    assert (spec.vocab_size, spec.context, spec.norm_epsilon) == (262208, 131072, 1e-6)
    assert spec.layers[0].head_dim == (128 if size == "27B" else 256)
    assert {layer.attention_scale for layer in spec.layers} == {scalar**-0.5}
    assert spec.layers[0].rope == Rope(1e4), "only layers that see all are scaled"
    assert spec.layers[5].rope == Rope(1e6, 8.0)
    assert spec.layers[0].n_before == 1023


def test_gguf_of_27b_scales_attention_by_the_share_of_a_head() -> None:
    """GGUF has no key for it; all other sizes take the length of a head."""
    large = from_gguf({"block_count": 62, "embedding_length": 5376, "attention.head_count": 32})
    assert large.layers[0].attention_scale == pytest.approx(168**-0.5)
    assert from_gguf().layers[0].attention_scale == 256**-0.5


def test_gguf_scales_the_rotation_of_layers_that_see_all() -> None:
    spec = from_gguf({"rope.scaling.type": "linear", "rope.scaling.factor": 8.0, "rope.freq_base_swa": 5e4})
    assert spec.layers[0].rope == Rope(5e4)
    assert spec.layers[5].rope == Rope(1e6, 8.0)


def test_frequencies_fall_from_one_and_are_divided_by_the_scaling() -> None:
    frequencies = Rope(1e6, 8.0).frequencies(16)
    assert frequencies.dtype == np.float32
    assert frequencies == pytest.approx([1e6 ** (-2 * j / 16) / 8 for j in range(8)])


@pytest.mark.parametrize(
    "spec", [from_config(use_bidirectional_attention=True), from_gguf(architecture="gemma-embedding")]
)
def test_embeddinggemma_sees_half_its_window_to_either_side(spec: ModelSpec) -> None:
    assert {(layer.n_before, layer.n_after) for layer in spec.layers} == {(256, 256), (ALL, ALL)}
    assert not spec.is_causal
    assert spec.family == "embeddinggemma"


def test_a_list_of_layer_types_goes_before_a_pattern() -> None:
    kinds = ["full_attention", "sliding_attention"] * 9
    spec = from_config(layer_types=kinds, sliding_window_pattern=6)
    assert [layer.n_before == ALL for layer in spec.layers] == [True, False] * 9


@pytest.mark.parametrize("key", ["sliding_window_pattern", "_sliding_window_pattern"])
def test_every_nth_layer_sees_all(key: str) -> None:
    spec = from_config(**{key: 3})
    assert [index for index, layer in enumerate(spec.layers) if layer.n_before == ALL] == [2, 5, 8, 11, 14, 17]


def test_a_soft_cap_of_the_logits_is_taken_where_there_is_one() -> None:
    assert from_config(final_logit_softcapping=30.0).logit_softcap == 30
    assert from_config(final_logit_softcapping=None).logit_softcap == 0
    assert from_gguf({"final_logit_softcapping": 2.5}).logit_softcap == 2.5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", -640),
        ("hidden_size", 2**24 + 1),
        ("hidden_size", 640.0),
        ("hidden_size", "640"),
        ("hidden_size", True),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 4097),
        ("num_attention_heads", [4]),
        ("num_key_value_heads", 0),
        ("head_dim", -1),
        ("intermediate_size", 10**30),
        ("sliding_window", 0),
        ("max_position_embeddings", 0),
        ("vocab_size", 2**63),
        ("rms_norm_eps", -1e-6),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", float("inf")),
        ("query_pre_attn_scalar", 0),
        ("query_pre_attn_scalar", "256"),
        ("final_logit_softcapping", -30),
        ("final_logit_softcapping", float("nan")),
        ("rope_theta", 0),
        ("rope_local_base_freq", float("inf")),
        ("rope_scaling", "linear"),
        ("rope_scaling", {"rope_type": "linear"}),
        ("rope_scaling", {"rope_type": "linear", "factor": 0}),
        ("rope_parameters", {}),
        ("rope_parameters", {"full_attention": {}, "sliding_attention": 3}),
        ("layer_types", ["full_attention"] * 17),
        ("layer_types", ["no_attention"] * 18),
        ("layer_types", [{}] * 18),
        ("layer_types", "full_attention"),
        ("use_bidirectional_attention", 1),
        ("attention_bias", "no"),
        ("hidden_activation", 3),
        ("sliding_window_pattern", 0),
    ],
)
def test_a_field_out_of_range_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=r"config\.json: ") as caught:
        from_config(**{key: value})
    assert any(name in str(caught.value) for name in (key, "factor", "_attention"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_activation", "relu"),
        ("attention_bias", True),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_parameters", {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {}}),
    ],
)
def test_what_no_gemma_3_has_is_unsupported(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: "):
        from_config(**{key: value})


@pytest.mark.parametrize(
    "key",
    [
        "embedding_length",
        "block_count",
        "attention.head_count",
        "attention.head_count_kv",
        "feed_forward_length",
        "attention.sliding_window",
        "context_length",
    ],
)
def test_gguf_without_a_size_is_refused_by_its_key(key: str) -> None:
    with pytest.raises(ModelFormatError, match=f"lacks 'gemma3.{key}'"):
        from_gguf({key: ...})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count", np.array([4, 4])),
        ("attention.value_length", 128),
        ("block_count", -1),
        ("rope.scaling.type", 3),
        ("rope.freq_base", 0.0),
    ],
)
def test_gguf_metadata_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=r"model\.gguf: "):
        from_gguf({key: value})


def test_gguf_with_another_rope_scaling_is_unsupported() -> None:
    with pytest.raises(UnsupportedModelError, match="yarn"):
        from_gguf({"rope.scaling.type": "yarn"})
