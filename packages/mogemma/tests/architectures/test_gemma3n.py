"""Configurations of Gemma 3n, and its GGUF metadata, to the numbers that the kernels take."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import TINY, copy_folder, copy_gguf

from mogemma.architectures import read_architecture, read_spec
from mogemma.architectures.fields import Fields
from mogemma.architectures.gemma3n import describe
from mogemma.architectures.spec import ALL, ModelSpec, Rope
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

CASE = TINY / "gemma3n-text"


def from_config(**changes: Any) -> ModelSpec:
    """Changes of E4B, whose numbers are the defaults of the library that wrote its configuration."""
    return describe(Fields(changes, Path("config.json")))


def test_e4b_is_what_its_library_takes_where_nothing_is_said() -> None:
    spec = from_config()
    assert [index for index, layer in enumerate(spec.layers) if layer.n_before == ALL] == [4, 9, 14, 19, 24, 29, 34]
    sources = [index - layer.kv_back for index, layer in enumerate(spec.layers)]
    assert sources == [*range(20), *(19 if (index + 1) % 5 == 0 else 18 for index in range(20, 35))]
    assert (spec.hidden_dim, spec.vocab_size, spec.n_streams, spec.laurel_rank) == (2048, 262400, 4, 64)
    assert (spec.logit_softcap, spec.norms_store_offset, spec.has_v_norms) == (30, False, True)
    assert {layer.rope for layer in spec.layers} == {Rope(1e4), Rope(1e6)}
    assert {layer.attention_scale for layer in spec.layers} == {1.0}
    ple = spec.layer_embedding
    assert ple is not None
    assert (ple.dim, ple.n_rows) == (256, 262144)


def test_gates_of_the_first_layers_let_a_twentieth_through() -> None:
    cutoffs = [layer.gate_cutoff for layer in from_config().layers]
    assert cutoffs == [pytest.approx(1.6448536)] * 10 + [0] * 25
    assert {layer.gate_cutoff for layer in from_config(activation_sparsity_pattern=0.0).layers} == {0}
    assert len(from_config(num_hidden_layers=10, num_kv_shared_layers=0).layers) == 10


def test_the_widths_of_mlps_are_one_or_a_list() -> None:
    widths = [8192] * 20 + [16384] * 15
    assert [layer.mlp_dim for layer in from_config(intermediate_size=widths).layers] == widths
    assert {layer.mlp_dim for layer in from_config(intermediate_size=8192).layers} == {8192}


def test_the_files_of_a_tiny_model_say_the_same() -> None:
    with open_checkpoint(CASE) as safetensors, open_checkpoint(CASE / "model.gguf") as gguf:
        spec, theirs = read_spec(safetensors), read_spec(gguf)
        assert [a.gate_cutoff for a in theirs.layers] == pytest.approx([b.gate_cutoff for b in spec.layers], rel=1e-6)
        layers = tuple(
            replace(ours, gate_cutoff=other.gate_cutoff) for ours, other in zip(spec.layers, theirs.layers, strict=True)
        )
        epsilon = float(np.float32(spec.norm_epsilon))
        assert theirs == replace(spec, norm_epsilon=epsilon, layers=layers)


def test_gguf_without_a_cap_has_that_of_the_family(tmp_path: Path) -> None:
    path = copy_gguf(CASE / "model.gguf", tmp_path / "model.gguf", {"gemma3n.final_logit_softcapping": None})
    with open_checkpoint(path) as checkpoint:
        assert read_spec(checkpoint).logit_softcap == 30


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("altup_active_idx", 1),
        ("altup_correct_scale", False),
        ("activation_sparsity_pattern", 0.3),
        ("activation_sparsity_pattern", 1.0),
        ("hidden_activation", "relu"),
    ],
)
def test_what_no_gemma_3n_has_is_unsupported(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: "):
        from_config(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("altup_num_inputs", 1),
        ("altup_num_inputs", 5),
        ("laurel_rank", 0),
        ("intermediate_size", [8192] * 34),
        ("intermediate_size", [8192] * 34 + ["8192"]),
        ("activation_sparsity_pattern", [0.95] * 3),
        ("activation_sparsity_pattern", [math.nan] * 35),
        ("activation_sparsity_pattern", [True] * 35),
        ("num_kv_shared_layers", 35),
        ("num_kv_shared_layers", 32),
        ("hidden_size_per_layer_input", 0),
    ],
)
def test_a_field_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=r"config\.json: "):
        from_config(**{key: value})


@pytest.mark.parametrize(
    "part",
    [
        "altup_projections.2",
        "altup_unembed_projections.0",
        "layers.3.altup.modality_router",
        "layers.3.altup.correct_output_scale",
        "layers.6.laurel.linear_left",
        "layers.6.laurel.post_laurel_norm",
        "embed_tokens_per_layer",
    ],
)
def test_a_missing_tensor_is_an_error(tmp_path: Path, part: str) -> None:
    folder = copy_folder(
        CASE, tmp_path / "model", tensors=lambda tensors: {name: x for name, x in tensors.items() if part not in name}
    )
    with open_checkpoint(folder) as checkpoint, pytest.raises(ModelFormatError, match="has no tensor"):
        read_architecture(checkpoint)


def test_streams_of_another_size_are_an_error(tmp_path: Path) -> None:
    path = copy_gguf(
        CASE / "model.gguf", tmp_path / "model.gguf", tensors={"altup_proj.weight": np.zeros((2, 32, 32), np.float32)}
    )
    with open_checkpoint(path) as checkpoint, pytest.raises(ModelFormatError, match=r"altup_proj.*\(3, 32, 32\)"):
        read_architecture(checkpoint)
