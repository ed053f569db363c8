"""Configurations of Gemma 2 to the numbers that the kernels take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import TINY
from configurations import vocabulary

from mogemma.architectures import read_spec
from mogemma.architectures.fields import Fields
from mogemma.architectures.gemma2 import describe, describe_gguf
from mogemma.architectures.spec import ALL, ModelSpec, Rope
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

GEMMA_2_2B_GGUF: dict[str, Any] = {
    "context_length": 8192,
    "embedding_length": 2304,
    "block_count": 26,
    "feed_forward_length": 9216,
    "attention.head_count": 8,
    "attention.head_count_kv": 4,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}


def from_config(**changes: Any) -> ModelSpec:
    """Changes of Gemma 2 2B, whose numbers are the defaults of the library that wrote its configuration."""
    return describe(Fields(changes, Path("config.json")))


def from_gguf(**changes: Any) -> ModelSpec:
    fields = {f"gemma2.{key}": value for key, value in {**GEMMA_2_2B_GGUF, **changes}.items()}
    return describe_gguf(Fields(fields, Path("model.gguf"), "gemma2."), vocabulary(256000))


def test_config_and_gguf_of_a_model_say_the_same() -> None:
    assert from_gguf() == from_config()


def test_the_files_of_a_tiny_model_say_the_same() -> None:
    folder = TINY / "gemma2"
    with open_checkpoint(folder) as safetensors, open_checkpoint(folder / "model.gguf") as gguf:
        spec = read_spec(safetensors)
        assert read_spec(gguf) == replace(spec, norm_epsilon=float(np.float32(spec.norm_epsilon)))


def test_the_first_layer_slides_and_the_second_sees_all() -> None:
    spec = from_config()
    assert [layer.n_before for layer in spec.layers] == [4095, ALL] * 13
    assert {layer.rope for layer in spec.layers} == {Rope(1e4)}
    assert {layer.attention_softcap for layer in spec.layers} == {50}
    assert (spec.logit_softcap, spec.has_qk_norms, spec.has_post_norms) == (30, False, True)


def test_a_soft_cap_that_is_null_is_none() -> None:
    spec = from_config(attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (spec.layers[0].attention_softcap, spec.logit_softcap) == (0, 0)


def test_27b_scales_attention_by_the_share_of_a_head() -> None:
    """144 = 4608 / 32, in the configuration; GGUF has no key for it."""
    sizes = {"embedding_length": 4608, "block_count": 46, "attention.head_count": 32, "attention.key_length": 128}
    large = from_gguf(**sizes, **{"attention.value_length": 128, "attention.head_count_kv": 16})
    assert large.layers[0].attention_scale == pytest.approx(144**-0.5)
    assert from_config(query_pre_attn_scalar=144).layers[0].attention_scale == 144**-0.5


def test_a_list_of_layer_types_goes_before_the_pattern() -> None:
    kinds = ["full_attention"] * 13 + ["sliding_attention"] * 13
    assert [layer.n_before == ALL for layer in from_config(layer_types=kinds).layers] == [True] * 13 + [False] * 13


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_activation", "silu"), ("attention_bias", True), ("use_bidirectional_attention", True)]
)
def test_what_no_gemma_2_has_is_unsupported(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: "):
        from_config(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", -50.0),
        ("final_logit_softcapping", "30"),
        ("query_pre_attn_scalar", 0),
        ("sliding_window", 0),
        ("layer_types", ["full_attention"]),
    ],
)
def test_a_field_out_of_range_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=key):
        from_config(**{key: value})
