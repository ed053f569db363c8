"""Configurations of Gemma 1 to the numbers that the kernels take."""

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
from mogemma.architectures.gemma1 import describe, describe_gguf
from mogemma.architectures.spec import ALL, ModelSpec, Rope
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

GEMMA_2B: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "hidden_act": "gelu",
    "rope_theta": 10000.0,
}

GEMMA_2B_GGUF: dict[str, Any] = {
    "context_length": 8192,
    "embedding_length": 2048,
    "block_count": 18,
    "feed_forward_length": 16384,
    "attention.head_count": 8,
    "attention.head_count_kv": 1,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.key_length": 256,
    "attention.value_length": 256,
}


def from_config(**changes: Any) -> ModelSpec:
    return describe(Fields({**GEMMA_2B, **changes}, Path("config.json")))


def from_gguf(**changes: Any) -> ModelSpec:
    fields = {f"gemma.{key}": value for key, value in {**GEMMA_2B_GGUF, **changes}.items()}
    return describe_gguf(Fields(fields, Path("model.gguf"), "gemma."), vocabulary(256000))


def test_config_and_gguf_of_a_model_say_the_same() -> None:
    assert from_gguf() == from_config()


def test_the_files_of_a_tiny_model_say_the_same() -> None:
    folder = TINY / "gemma1-mqa"
    with open_checkpoint(folder) as safetensors, open_checkpoint(folder / "model.gguf") as gguf:
        spec = read_spec(safetensors)
        assert read_spec(gguf) == replace(spec, norm_epsilon=float(np.float32(spec.norm_epsilon)))


def test_every_layer_sees_all_and_has_two_norms() -> None:
    spec = from_config()
    assert {(layer.n_before, layer.n_after) for layer in spec.layers} == {(ALL, 0)}
    assert (spec.has_qk_norms, spec.has_post_norms, spec.norms_store_offset) == (False, False, True)
    assert spec.layers[0].attention_scale == 1 / 16
    assert spec.layers[0].rope == Rope(1e4)
    assert (spec.logit_softcap, spec.layers[0].attention_softcap) == (0, 0)
    assert spec.family == "gemma"


def test_what_is_left_out_is_that_of_7b() -> None:
    spec = describe(Fields({}, Path("config.json")))
    layer = spec.layers[0]
    assert (len(spec.layers), spec.hidden_dim, spec.vocab_size, spec.context) == (28, 3072, 256000, 8192)
    assert (layer.n_heads, layer.n_kv_heads, layer.head_dim, layer.mlp_dim) == (16, 16, 256, 24576)


@pytest.mark.parametrize("name", ["gelu", "gelu_pytorch_tanh", None])
def test_the_old_name_of_the_activation_means_the_tanh_form(name: str | None) -> None:
    assert from_config(hidden_act=name) == from_config()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "relu"),
        ("hidden_activation", "gelu_new"),
        ("attention_bias", True),
        ("use_bidirectional_attention", True),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}),
    ],
)
def test_what_no_gemma_1_has_is_unsupported(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: "):
        from_config(**{key: value})


@pytest.mark.parametrize("key", ["attention.value_length", "attention.head_count_kv", "context_length"])
def test_gguf_metadata_out_of_range_is_refused(key: str) -> None:
    with pytest.raises(ModelFormatError, match=r"model\.gguf: "):
        from_gguf(**{key: -1})
