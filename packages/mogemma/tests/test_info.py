"""`model.info`: what a model is, and what it costs at this moment."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, QUANT_ZOO, TINY, copy_folder, read_safetensors

from mogemma import ConfigError, EmbeddingModel, SyncGemmaModel, session
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


@pytest.mark.parametrize("case", ["gemma2", "gemma3-text", "gemma3n-text", "gemma4-dense", "gemma4-e2b", "gemma4-moe"])
@pytest.mark.parametrize("cache", ["bf16", "f32"])
def test_a_token_takes_the_cache_bytes_that_are_stated(tmp_path: Path, case: str, cache: str) -> None:
    """What lies in windows does not grow with the context; the whole is the kernels' own number."""
    infos = []
    for context in (4096, 65536):
        folder = copy_folder(TINY / case, tmp_path / str(context), {"max_position_embeddings": context})
        with SyncGemmaModel(folder, threads=1, cache=cache) as model:
            infos.append(model.info)
    small, large = infos
    assert small.kv_token_bytes == large.kv_token_bytes > 0
    assert small.kv_window_bytes == large.kv_window_bytes > 0
    for info in infos:
        assert info.kv_cache_bytes == info.context * info.kv_token_bytes + info.kv_window_bytes


class TestDefaultContext:
    """The model's own where its cache fits into half of the memory."""

    @pytest.fixture
    def long(self, tmp_path: Path) -> Path:
        return copy_folder(GEMMA, tmp_path / "model", {"max_position_embeddings": 100_000})

    @pytest.mark.parametrize(
        ("tokens", "context"),
        [(100_000, 100_000), (99_999, 65_536), (65_536, 65_536), (65_535, 32_768), (5_000, 4_096), (3, 512), (0, 512)],
    )
    def test_is_the_greatest_power_of_two_that_fits(
        self, long: Path, monkeypatch: pytest.MonkeyPatch, tokens: int, context: int
    ) -> None:
        with SyncGemmaModel(long, threads=1) as model:
            token_bytes = model.info.kv_token_bytes
            assert model.info.context == 100_000
        monkeypatch.setattr(session, "available_memory", lambda: 2.0 * tokens * token_bytes)
        with SyncGemmaModel(long, threads=1) as model:
            info = model.info
        assert (info.context, info.max_context, info.is_context_cut) == (context, 100_000, context < 100_000)

    def test_is_not_cut_where_the_system_does_not_tell_its_memory(
        self, long: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "available_memory", lambda: math.inf)
        with SyncGemmaModel(long, threads=1) as model:
            assert (model.info.context, model.info.is_context_cut) == (100_000, False)

    def test_gives_way_to_what_is_asked_for(self, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
        with SyncGemmaModel(long, threads=1, context=90_000) as model:
            assert (model.info.context, model.info.is_context_cut) == (90_000, False)

    def test_counts_for_models_that_keep_a_cache(self, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
        with EmbeddingModel(long, threads=1) as model:
            assert (model.info.context, model.info.is_context_cut) == (8192, False)


@pytest.mark.parametrize("factor", [1.0, 8.0])
def test_more_context_than_the_model_was_made_for_is_refused(tmp_path: Path, factor: float) -> None:
    """What scaled positions allow is in the configuration's limit already."""
    rope = {"rope_type": "linear", "factor": factor, "rope_theta": 1e6}
    ropes = {"rope_parameters": {"full_attention": rope, "sliding_attention": {"rope_type": "default"}}}
    folder = copy_folder(GEMMA, tmp_path / "model", ropes)
    with SyncGemmaModel(folder, threads=1, context=256) as model:
        assert model.info.context == 256
    with pytest.raises(ConfigError, match=r"context=257 .* 1 to 256 tokens.*scaling of positions"):
        SyncGemmaModel(folder, threads=1, context=257)


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
