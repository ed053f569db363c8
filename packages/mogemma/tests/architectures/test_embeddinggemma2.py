"""Configurations of EmbeddingGemma 2 to the numbers that the kernels take, and where its one dense head comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import TINY, copy_folder

from mogemma.architectures import read_architecture
from mogemma.architectures.embeddinggemma2 import describe
from mogemma.architectures.fields import Fields
from mogemma.architectures.spec import ALL, ModelSpec, Rope
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, UnsupportedModelError

CASE = TINY / "embeddinggemma2"

PUBLISHED: dict[str, Any] = {
    "max_position_embeddings": 262144,
    "sliding_window": 512,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    },
    "per_layer_config": {str(index): {"head_dim": 512, "num_key_value_heads": 1} for index in (5, 11, 17, 23)},
}


def from_config(**changes: Any) -> ModelSpec:
    fields = {key: value for key, value in {**PUBLISHED, **changes}.items() if value is not ...}
    return describe(Fields(fields, Path("config.json")))


def test_it_sees_its_window_to_either_side() -> None:
    """Not half of it, as EmbeddingGemma does."""
    spec = from_config()
    assert [layer.n_before for layer in spec.layers] == ([512] * 5 + [ALL]) * 4
    assert [layer.n_after for layer in spec.layers] == ([512] * 5 + [ALL]) * 4
    assert not spec.is_causal
    assert from_config(sliding_window=1024, use_bidirectional_attention="all") == spec, "as its first library called it"


def test_layers_that_see_all_have_one_long_head_of_keys() -> None:
    spec = from_config()
    assert {(layer.n_heads, layer.n_kv_heads, layer.head_dim, layer.rope) for layer in spec.layers} == {
        (4, 2, 256, Rope(1e4)),
        (4, 1, 512, Rope(1e6)),
    }
    older = {"per_layer_config": ..., "global_head_dim": 512, "num_global_key_value_heads": 1}
    assert from_config(**older) == spec


def test_per_layer_embeddings_come_from_a_projection_alone() -> None:
    ple = from_config().layer_embedding
    assert ple is not None
    assert (ple.dim, ple.n_rows, ple.norm_scale, ple.projection_scale) == (512, 0, 1.0, 512**-0.5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_k_eq_v", True),
        ("enable_moe_block", True),
        ("num_kv_shared_layers", 2),
        ("hidden_activation", "relu"),
        ("attention_bias", True),
    ],
)
def test_what_no_embeddinggemma_2_has_is_unsupported(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: "):
        from_config(**{key: value})


@pytest.mark.parametrize("key", ["rope_parameters", "sliding_window", "max_position_embeddings"])
def test_what_has_changed_its_default_must_be_said(key: str) -> None:
    with pytest.raises(ModelFormatError, match=f"lacks '{key}'"):
        from_config(**{key: ...})


def heads_of(folder: Path) -> list[tuple[int, int]]:
    with open_checkpoint(folder) as checkpoint:
        return [(matrix["n_rows"], matrix["n_columns"]) for matrix in read_architecture(checkpoint).struct["dense"]]


def with_modules(folder: Path, *kinds: str, pooling: dict[str, Any] | None = None) -> Path:
    copy_folder(CASE, folder)
    modules = [
        {"idx": index, "path": f"{index}_{kind}" if index else "", "type": f"sentence_transformers.models.{kind}"}
        for index, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    for index, kind in enumerate(kinds):
        if kind == "Pooling":
            (folder / f"{index}_Pooling").mkdir()
            content = json.dumps(pooling or {"pooling_mode_mean_tokens": True})
            (folder / f"{index}_Pooling" / "config.json").write_text(content, encoding="utf-8")
    return folder


def test_the_head_is_among_the_models_own_weights(tmp_path: Path) -> None:
    assert heads_of(CASE) == [(40, 32)]
    assert heads_of(with_modules(tmp_path / "model", "Transformer", "Pooling", "Normalize")) == [(40, 32)]


def test_other_heads_beside_it_are_unsupported(tmp_path: Path) -> None:
    folder = with_modules(tmp_path / "model", "Transformer", "Pooling", "Dense")
    (folder / "2_Dense").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "2_Dense" / name).write_bytes((TINY / "embeddinggemma" / "2_Dense" / name).read_bytes())
    with pytest.raises(UnsupportedModelError, match="beside the model's own projection"):
        heads_of(folder)


@pytest.mark.parametrize("pooling", [{"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}])
def test_another_pooling_is_unsupported(tmp_path: Path, pooling: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="pools by cls"):
        heads_of(with_modules(tmp_path / "model", "Transformer", "Pooling", pooling=pooling))


def test_without_its_head_it_is_incomplete(tmp_path: Path) -> None:
    folder = copy_folder(
        CASE,
        tmp_path / "model",
        tensors=lambda tensors: {name: x for name, x in tensors.items() if "embedding_projection" not in name},
    )
    with pytest.raises(ModelFormatError, match="embedding_projection"):
        heads_of(folder)
