"""`model.info`: what a model is, and what it costs at this moment."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, QUANT_ZOO, copy_folder, read_safetensors

from mogemma import EmbeddingModel, SyncGemmaModel
from mogemma._native import runnable_levels

if TYPE_CHECKING:
    from pathlib import Path


def test_it_says_what_the_model_is() -> None:
    with SyncGemmaModel(GEMMA, threads=2) as model:
        info = model.info
    tensors = read_safetensors(GEMMA / "model.safetensors")
    assert (info.family, info.format, info.formats) == ("gemma3", "BF16", {"BF16": len(tensors)})
    assert (info.n_layers, info.hidden_dim, info.vocab_size) == (7, 40, 512)
    assert info.n_parameters == sum(int(np.prod(shape)) for _, shape, _ in tensors.values())
    assert (info.context, info.max_context) == (256, 256)
    assert (info.generates, info.dense_heads, info.embedding_dim) == (True, 0, 40)
    assert (info.arithmetic, info.cache_format, info.threads) == ("int8", "f16", 2)
    assert info.level == list(runnable_levels())[-1]
    assert info.path == str(GEMMA)
    assert (info.packed_bytes, info.is_short_of_memory) == (0, False), "float weights are read as fast as they are"


def test_it_says_what_an_embedding_model_is() -> None:
    with EmbeddingModel(EMBEDDING_GEMMA, threads=1) as model:
        info = model.info
        assert info.embedding_dim == model.dimensions
    assert (info.family, info.generates, info.dense_heads, info.embedding_dim) == ("embeddinggemma", False, 2, 36)
    assert info.head_bytes == 0
    assert info.formats == {"BF16": 80, "F32": 2}, "the dense heads are part of it"
    assert info.mapped_bytes == sum(path.stat().st_size for path in EMBEDDING_GEMMA.rglob("*.safetensors"))


def test_the_format_is_that_of_most_weights() -> None:
    with SyncGemmaModel(QUANT_ZOO / "model.gguf", threads=1) as model:
        info = model.info
    assert len(info.formats) == 15
    assert info.format == "Q8_0", "the embeddings are the largest matrix"


def test_bytes_are_those_of_the_matrices_in_the_file() -> None:
    with SyncGemmaModel(GEMMA / "model.gguf", threads=1) as model:
        info = model.info
    tensors = read_safetensors(GEMMA / "model.safetensors")
    matrices = {name: len(data) for name, (_, shape, data) in tensors.items() if len(shape) == 2}
    assert info.head_bytes == matrices["model.embed_tokens.weight"]
    assert info.layer_bytes == sum(matrices.values()) - info.head_bytes
    assert info.layer_weights == info.layer_bytes // 2, "BF16"
    assert info.mapped_bytes == (GEMMA / "model.gguf").stat().st_size


def test_the_options_of_the_load_show() -> None:
    with SyncGemmaModel(GEMMA, context=100, threads=1, arithmetic="float32", cache="f32") as model:
        info = model.info
    assert (info.context, info.max_context, info.threads) == (100, 256, 1)
    assert (info.arithmetic, info.cache_format) == ("float32", "f32")


def test_a_cache_of_half_the_numbers_takes_half_the_bytes() -> None:
    sizes = {}
    for cache in ("f16", "bf16", "f32"):
        with SyncGemmaModel(GEMMA, threads=1, cache=cache) as model:
            sizes[cache] = model.info.kv_cache_bytes
    assert sizes["f16"] == sizes["bf16"]
    assert sizes["f32"] == pytest.approx(2 * sizes["f16"], rel=0.01)


def test_only_layers_that_see_all_need_memory_for_the_whole_context(tmp_path: Path) -> None:
    """A layer whose window slides keeps a ring, whatever the context is."""

    def cache_bytes(name: str, kind: str, context: int) -> int:
        fields = {"max_position_embeddings": context, "layer_types": [kind] * 7}
        with SyncGemmaModel(copy_folder(GEMMA, tmp_path / name, fields), threads=1) as model:
            return model.info.kv_cache_bytes

    assert cache_bytes("a", "sliding_attention", 1 << 10) == cache_bytes("b", "sliding_attention", 1 << 20)
    assert cache_bytes("c", "full_attention", 1 << 20) >= 1000 * cache_bytes("d", "full_attention", 1 << 10)


def test_memory_is_that_of_the_process() -> None:
    with SyncGemmaModel(GEMMA, threads=1) as model:
        ours = np.ones(64 << 20, np.uint8)
        info, ours_bytes = model.info, ours.nbytes
        assert info.resident_bytes > ours_bytes
        assert info.peak_resident_bytes >= info.resident_bytes
        del ours
        assert model.info.resident_bytes < info.resident_bytes - ours_bytes // 2


def test_it_can_be_written_as_json_and_not_be_changed() -> None:
    with EmbeddingModel(EMBEDDING_GEMMA / "model.gguf", threads=1) as model:
        info = model.info
    assert json.loads(json.dumps(info.as_dict())) == info.as_dict()
    with pytest.raises(FrozenInstanceError):
        setattr(info, "context", 5)  # noqa: B010  type checkers know that it cannot be set
