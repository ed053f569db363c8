"""Configurations of Gemma 4 in every spelling, and its GGUF metadata, to the numbers that the kernels take."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import TINY, copy_folder, copy_gguf
from configurations import vocabulary

from mogemma.architectures import read_architecture, read_spec
from mogemma.architectures.fields import Fields
from mogemma.architectures.gemma4 import describe, describe_gguf
from mogemma.architectures.spec import ALL, Experts, ModelSpec, Rope
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoints import Stored

FULL_ROPE = Rope(1e6, turning=0.25)

# The text_config of the published models, as far as it is not the default of their library.
E2B: dict[str, Any] = {
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "num_hidden_layers": 35,
    "num_key_value_heads": 1,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
    "num_kv_shared_layers": 20,
    "use_double_wide_mlp": True,
    "final_logit_softcapping": 30.0,
}
LARGE: dict[str, Any] = {
    "hidden_size": 5376,
    "intermediate_size": 21504,
    "num_hidden_layers": 60,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "num_global_key_value_heads": 4,
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
    "sliding_window": 1024,
    "max_position_embeddings": 262144,
    "use_bidirectional_attention": "vision",
    "final_logit_softcapping": 30.0,
}
MOE: dict[str, Any] = {
    **LARGE,
    "hidden_size": 2816,
    "intermediate_size": 2112,
    "num_hidden_layers": 30,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "num_global_key_value_heads": 2,
    "enable_moe_block": True,
    "num_experts": 128,
    "top_k_experts": 8,
    "moe_intermediate_size": 704,
}
LARGE_GGUF: dict[str, Any] = {
    "embedding_length": 5376,
    "block_count": 60,
    "context_length": 262144,
    "feed_forward_length": 21504,
    "attention.head_count": 32,
    "attention.head_count_kv": np.array(([16] * 5 + [4]) * 10, np.int32),
    "attention.key_length": 512,
    "attention.value_length": 512,
    "attention.key_length_swa": 256,
    "attention.value_length_swa": 256,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.sliding_window": 1024,
    "attention.sliding_window_pattern": np.array(([True] * 5 + [False]) * 10),
    "attention.shared_kv_layers": 0,
    "embedding_length_per_layer_input": 0,
    "rope.freq_base": 1e6,
    "rope.freq_base_swa": 1e4,
    "final_logit_softcapping": 30.0,
}


def from_config(config: dict[str, Any], **changes: Any) -> ModelSpec:
    fields = {key: value for key, value in {**config, **changes}.items() if value is not ...}
    return describe(Fields(fields, Path("config.json")))


def from_gguf(**changes: Any) -> ModelSpec:
    values = {**LARGE_GGUF, **changes}
    fields = {f"gemma4.{key}": value for key, value in values.items() if value is not ...}
    return describe_gguf(Fields(fields, Path("model.gguf"), "gemma4."), vocabulary(262144))


def test_e2b_shares_keys_and_values_with_the_last_layers_that_have_some() -> None:
    spec = from_config(E2B)
    assert [index for index, layer in enumerate(spec.layers) if layer.n_before == ALL] == [4, 9, 14, 19, 24, 29, 34]
    sources = [index - layer.kv_back for index, layer in enumerate(spec.layers)]
    assert sources[:15] == list(range(15))
    assert sources[15:] == [14 if (index + 1) % 5 == 0 else 13 for index in range(15, 35)]
    assert [layer.mlp_dim for layer in spec.layers] == [6144] * 15 + [12288] * 20
    assert {(layer.head_dim, layer.n_kv_heads, layer.rope) for layer in spec.layers} == {
        (256, 1, Rope(1e4)),
        (512, 1, FULL_ROPE),
    }
    assert {layer.attention_scale for layer in spec.layers} == {1.0}
    assert all(layer.has_values for layer in spec.layers)


def test_per_layer_embeddings_are_the_mean_of_a_table_and_a_projection_times_the_root_of_two() -> None:
    ple = from_config(E2B).layer_embedding
    assert ple is not None
    assert (ple.dim, ple.n_rows) == (256, 262144)
    assert ple.table_scale == pytest.approx(math.sqrt(256) / math.sqrt(2))
    assert ple.norm_scale == pytest.approx(1 / math.sqrt(2))
    assert ple.projection_scale == 1536**-0.5


def test_31b_takes_keys_for_values_where_it_sees_all() -> None:
    spec = from_config(LARGE)
    assert [layer.has_values for layer in spec.layers] == ([True] * 5 + [False]) * 10
    assert [layer.n_kv_heads for layer in spec.layers] == ([16] * 5 + [4]) * 10
    assert (spec.layer_embedding, spec.logit_softcap, spec.layers[0].n_before) == (None, 30, 1023)
    assert (spec.has_v_norms, spec.has_output_scales, spec.norms_store_offset) == (True, True, False)


def test_26b_has_experts_in_every_layer() -> None:
    assert {layer.experts for layer in from_config(MOE).layers} == {Experts(128, 8, 704)}


def test_the_unified_configuration_has_no_per_layer_embeddings_without_saying_so() -> None:
    sizes = {key: value for key, value in LARGE.items() if key != "hidden_size_per_layer_input"}
    assert from_config(sizes).layer_embedding is not None
    assert from_config(sizes, model_type="gemma4_unified_text").layer_embedding is None


def test_heads_of_layers_that_see_all_are_listed_or_said_at_once() -> None:
    listed = {f"{index:02d}": {"head_dim": 512, "num_key_value_heads": 4} for index in range(5, 60, 6)}
    today = from_config(LARGE, per_layer_config=listed, num_global_key_value_heads=...)
    assert today == from_config(LARGE)
    assert from_config(E2B, num_global_key_value_heads=8) == from_config(E2B), "counts with attention_k_eq_v only"
    assert from_config(E2B, global_head_dim=128).layers[4].head_dim == 128


def test_the_last_layer_sees_all_whatever_is_said() -> None:
    spec = from_config(E2B, layer_types=["sliding_attention"] * 34 + ["sliding_attention"], num_kv_shared_layers=0)
    assert [layer.n_before == ALL for layer in spec.layers] == [False] * 34 + [True]


def test_rotation_as_configured() -> None:
    ropes = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
        "full_attention": {"rope_type": "proportional", "rope_theta": 2e6, "partial_rotary_factor": 0.5, "factor": 4.0},
    }
    spec = from_config(E2B, rope_parameters=ropes)
    assert (spec.layers[0].rope, spec.layers[4].rope) == (Rope(5e3), Rope(2e6, 4.0, 0.5))


def test_a_quarter_of_the_pairs_turns_as_fast_as_in_a_whole_head() -> None:
    frequencies = FULL_ROPE.frequencies(512)
    assert np.count_nonzero(frequencies) == 64
    assert frequencies[:64] == pytest.approx([1e6 ** (-2 * j / 512) for j in range(64)])


def test_config_and_gguf_of_31b_say_the_same_but_for_what_its_tensors_show() -> None:
    """Which layers take keys for values, and which pairs turn."""
    spec = from_config(LARGE)
    layers = tuple(
        replace(layer, rope=replace(layer.rope, turning=1.0), has_values=layer.n_before != ALL) for layer in spec.layers
    )
    assert from_gguf() == replace(spec, layers=layers)


@pytest.mark.parametrize("case", ["gemma4-dense", "gemma4-e2b", "gemma4-moe"])
def test_the_files_of_a_tiny_model_say_the_same(case: str) -> None:
    folder = TINY / case
    with open_checkpoint(folder) as safetensors, open_checkpoint(folder / "model.gguf") as gguf:
        spec = read_spec(safetensors)
        assert read_spec(gguf) == replace(spec, norm_epsilon=float(np.float32(spec.norm_epsilon)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_activation", "silu"),
        ("attention_bias", True),
        ("use_bidirectional_attention", "all"),
        ("rope_parameters", {"full_attention": {"rope_type": "yarn"}, "sliding_attention": {}}),
        ("per_layer_config", {"5": {"intermediate_size": 4}}),
        ("per_layer_config", {"last": {"head_dim": 512}}),
    ],
)
def test_what_no_gemma_4_has_is_unsupported(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: "):
        from_config(LARGE, **{key: value})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_kv_shared_layers": 35}, "num_kv_shared_layers"),
        ({"num_kv_shared_layers": 34}, "share keys and values that no full_attention makes"),
        ({"num_kv_shared_layers": -1}, "num_kv_shared_layers"),
        ({"enable_moe_block": True}, "num_experts"),
        ({"enable_moe_block": True, "num_experts": 4, "top_k_experts": 5, "moe_intermediate_size": 8}, "top_k_experts"),
        ({"per_layer_config": {"4": 3}}, "4"),
        ({"per_layer_config": [4]}, "per_layer_config"),
        ({"use_double_wide_mlp": "yes"}, "use_double_wide_mlp"),
        ({"hidden_size_per_layer_input": -1}, "hidden_size_per_layer_input"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 2}}},
            "sliding_attention",
        ),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelFormatError, match=match):
        from_config(E2B, **changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count_kv", np.array([16, 4], np.int32)),
        ("attention.head_count_kv", ...),
        ("attention.sliding_window_pattern", np.array([True] * 59)),
        ("attention.shared_kv_layers", 60),
        ("feed_forward_length", np.array([1.5] * 60)),
        ("attention.value_length_swa", 128),
        ("expert_count", 8),
    ],
)
def test_gguf_metadata_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=r"model\.gguf: "):
        from_gguf(**{key: value})


@pytest.mark.parametrize("divisors", [[2.0] * 16, [1.0] * 8 + [8.0] * 8, [1e30] * 16])
def test_gguf_that_scales_rotations_otherwise_is_unsupported(tmp_path: Path, divisors: list[float]) -> None:
    source, numbers = TINY / "gemma4-dense" / "model.gguf", np.array(divisors, np.float32)
    path = copy_gguf(source, tmp_path / "model.gguf", tensors={"rope_freqs.weight": numbers})
    with open_checkpoint(path) as checkpoint, pytest.raises(UnsupportedModelError, match="rope_freqs"):
        read_spec(checkpoint)


def test_gguf_with_divisors_for_another_head_is_refused(tmp_path: Path) -> None:
    source, numbers = TINY / "gemma4-dense" / "model.gguf", np.ones(8, np.float32)
    path = copy_gguf(source, tmp_path / "model.gguf", tensors={"rope_freqs.weight": numbers})
    with open_checkpoint(path) as checkpoint, pytest.raises(ModelFormatError, match="rope_freqs"):
        read_spec(checkpoint)


def test_the_table_of_per_layer_embeddings_stays_in_the_file() -> None:
    """It is as large as all else; rows of it are looked up."""
    for name in ("gemma4-e2b", "gemma4-e2b/model.gguf"):
        with open_checkpoint(TINY / name) as checkpoint:
            struct = read_architecture(checkpoint).struct
            table = next(tensor for key, tensor in checkpoint.tensors.items() if "per_layer" in key and "emb" in key)
            assert struct["ple_embedding"]["data"] is table.data, "no byte is copied"


def test_experts_are_views_of_their_tensors() -> None:
    with open_checkpoint(TINY / "gemma4-moe") as checkpoint:
        experts = read_architecture(checkpoint).struct["layers"][1]["experts"]
        stacked = checkpoint.tensor("model.layers.1.experts.gate_up_proj")
        joined = b"".join(bytes(one[role]["data"]) for one in experts for role in ("gate_proj", "up_proj"))
        assert joined == bytes(stacked.data)


def without(part: str) -> Callable[[Stored], Stored]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("gemma4-dense", "layers.1.self_attn.v_proj"),
        ("gemma4-dense", "layers.3.layer_scalar"),
        ("gemma4-e2b", "embed_tokens_per_layer"),
        ("gemma4-e2b", "layers.7.per_layer_projection"),
        ("gemma4-e2b", "per_layer_model_projection"),
        ("gemma4-moe", "layers.2.router.scale"),
        ("gemma4-moe", "layers.0.experts.down_proj"),
        ("gemma4-moe", "layers.0.experts.gate_up_proj"),
    ],
)
def test_a_missing_tensor_is_an_error(tmp_path: Path, case: str, part: str) -> None:
    folder = copy_folder(TINY / case, tmp_path / "model", tensors=without(part))
    with open_checkpoint(folder) as checkpoint, pytest.raises(ModelFormatError, match="has no tensor"):
        read_architecture(checkpoint)


@pytest.mark.parametrize("scale", [0.0, math.inf, math.nan])
def test_an_output_scale_that_leaves_nothing_is_damage(tmp_path: Path, scale: float) -> None:
    source = TINY / "gemma4-dense" / "model.gguf"
    numbers = {"blk.1.layer_output_scale.weight": np.array([scale], np.float32)}
    path = copy_gguf(source, tmp_path / "model.gguf", tensors=numbers)
    with open_checkpoint(path) as checkpoint, pytest.raises(ModelFormatError, match="layer_output_scale"):
        read_architecture(checkpoint)


def test_keys_and_values_that_a_shared_layer_still_has_are_left_alone(tmp_path: Path) -> None:
    def with_unused(tensors: Stored) -> Stored:
        unused = {
            f"model.layers.7.self_attn.{role}.weight": tensors[f"model.layers.2.self_attn.{role}.weight"]
            for role in ("k_proj", "v_proj")
        }
        return {**tensors, **unused}

    folder = copy_folder(TINY / "gemma4-e2b", tmp_path / "model", tensors=with_unused)
    with open_checkpoint(folder) as checkpoint:
        assert "k_proj" not in read_architecture(checkpoint).struct["layers"][7]
