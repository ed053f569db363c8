"""Every family against the reference implementation; and that no way of running it changes a bit of what it says."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from checkpoints import (
    TINY,
    convert_to_gguf,
    copy_folder,
    copy_gguf,
    quantise_gguf,
    read_safetensors,
    write_safetensors,
)

from mogemma import EmbeddingModel, SyncGemmaModel
from mogemma._native import SequenceRun
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, MogemmaError
from mogemma.session import Runner, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from blocks import Floats
    from checkpoints import Stored
    from numpy.typing import NDArray

TEXTS = [
    "gemma1-mha",
    "gemma1-mqa",
    "gemma1-mqa/model.gguf",
    "gemma2",
    "gemma2/model.gguf",
    "gemma2-qpas",
    "gemma3n-text",
    "gemma3n-text/model.gguf",
    "gemma4-dense",
    "gemma4-dense/model.gguf",
    "gemma4-e2b",
    "gemma4-e2b/model.gguf",
    "gemma4-moe",
    "gemma4-moe/model.gguf",
]
"""Checkpoints that write, with golden outputs beside them; Gemma 3's are in test_session.py."""

MULTIMODAL = {
    "gemma3-vision": ["multi_modal_projector", "vision_tower"],
    "gemma4-e2b-mm": ["audio_tower", "vision_tower"],
    "gemma4-unified": ["vision_embedder"],
}
"""Checkpoints that also see or hear, with a few weights of what they do it with."""

EXACT: dict[str, Any] = {"arithmetic": "float32", "cache": "f32"}

every_text = pytest.mark.parametrize("case", TEXTS)


@contextmanager
def opened(case: str | Path, **options: Any) -> Iterator[Runner]:
    options.setdefault("threads", 1)
    with open_checkpoint(TINY / case) as checkpoint, Runner(checkpoint, **options) as runner:
        yield runner


def golden(case: str) -> dict[str, NDArray[Any]]:
    with np.load(TINY / case.partition("/")[0] / "golden.npz") as arrays:
        return dict(arrays)


def whole_logits(runner: Runner, ids: Sequence[int]) -> Floats:
    """Of every token, by prefill in the largest chunks."""
    session = Session(runner)
    logits = session.logits(ids)
    session.close()
    return logits


@every_text
def test_float32_logits_are_those_of_the_reference_implementation(level: str, case: str) -> None:
    expected = golden(case)
    with opened(case, **EXACT, level=level) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


@every_text
def test_greedy_decoding_takes_the_tokens_of_the_reference_implementation(level: str, case: str) -> None:
    expected = golden(case)
    with opened(case, **EXACT, level=level) as runner:
        session = Session(runner)
        logits = session.prefill(expected["input_ids"].tolist())
        taken = []
        for _ in expected["greedy_ids"]:
            taken.append(int(logits.argmax()))
            logits = session.decode(taken[-1])
        session.close()
    assert taken == expected["greedy_ids"].tolist()


@every_text
@pytest.mark.parametrize("arithmetic", ["int8", "bfloat16"])
def test_token_by_token_and_in_any_chunks_is_prefill_to_the_bit(level: str, case: str, arithmetic: str) -> None:
    ids = golden(case)["input_ids"].tolist()
    with opened(case, arithmetic=arithmetic, level=level) as runner:
        expected = whole_logits(runner, ids)
        session = Session(runner)
        assert np.array_equal([session.decode(token).copy() for token in ids], expected)
        session.close()
    with opened(case, arithmetic=arithmetic, level=level, max_tokens=5) as runner:
        assert np.array_equal(whole_logits(runner, ids), expected)


@every_text
@pytest.mark.parametrize("arithmetic", ["int8", "bfloat16"])
def test_the_number_of_threads_and_packed_weights_do_not_change_a_bit(level: str, case: str, arithmetic: str) -> None:
    ids = golden(case)["input_ids"].tolist()
    options: dict[str, Any] = {"arithmetic": arithmetic, "level": level}
    with opened(case, **options, pack=False) as one, opened(case, **options, threads=3, pack=True) as three:
        assert np.array_equal(whole_logits(three, ids), whole_logits(one, ids))


@every_text
def test_a_batch_of_texts_gives_each_what_it_gets_alone(level: str, case: str) -> None:
    """With a cache and without one, where keys and values live for the call only."""
    ids = np.asarray(golden(case)["input_ids"], np.int32)
    texts = [ids[:1], ids[:9], ids[3:], ids]
    with opened(case, level=level) as runner:
        engine = runner.engine

        def logits(texts: Sequence[NDArray[np.int32]], *, cached: bool) -> Floats:
            result = np.empty((sum(map(len, texts)), engine.vocab_size), np.float32)
            caches = [engine.new_cache() if cached else None for _ in texts]
            runs = [SequenceRun(one, cache, n_outputs=len(one)) for one, cache in zip(texts, caches, strict=True)]
            engine.forward(runs, logits=result)
            for cache in caches:
                if cache is not None:
                    cache.close()
            return result

        for cached in (True, False):
            alone = [logits([one], cached=cached) for one in texts]
            assert np.array_equal(logits(texts, cached=cached), np.concatenate(alone))


@every_text
def test_quantised_weights_stay_near_the_reference_implementation(level: str, case: str) -> None:
    """8 bits, on tiny matrices of random weights, which forgive less than trained ones; a wrong pass is off by 1."""
    expected = golden(case)
    with opened(case, quantize="q8_0", level=level) as runner:
        logits = whole_logits(runner, expected["input_ids"].tolist())
    error = logits - expected["logits"]
    assert 0 < np.sqrt((error**2).mean()) < 0.1 * expected["logits"].std()


# --- checkpoints that also see or hear


@pytest.mark.parametrize("case", MULTIMODAL)
def test_the_text_of_a_multimodal_model_runs_without_its_towers(level: str, case: str) -> None:
    """The golden logits are those of a text before its first image, which nothing after it changes."""
    expected = golden(case)
    with opened(case, **EXACT, level=level) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize("case", MULTIMODAL)
def test_info_names_what_a_text_does_not_need(case: str) -> None:
    with SyncGemmaModel(TINY / case, threads=1) as model:
        assert model.info.unused_parts == MULTIMODAL[case]
    with SyncGemmaModel(TINY / "gemma4-e2b", threads=1) as model:
        assert model.info.unused_parts == []


@pytest.mark.parametrize("case", MULTIMODAL)
def test_a_multimodal_model_says_of_a_text_what_its_text_model_says(tmp_path: Path, case: str) -> None:
    def text_alone(tensors: Stored) -> Stored:
        names = {name: name.partition("language_model.")[2].removeprefix("model.") for name in tensors}
        return {f"model.{names[name]}": tensor for name, tensor in tensors.items() if names[name]}

    ids = np.random.default_rng(3).integers(4, 500, 60).tolist()
    with open_checkpoint(TINY / case) as checkpoint:
        config = dict(checkpoint.config["text_config"])
        others = dict.fromkeys(checkpoint.config)
    folder = copy_folder(TINY / case, tmp_path / "text", {**others, **config}, tensors=text_alone)
    with opened(case) as whole, opened(folder) as text:
        assert np.array_equal(whole_logits(whole, ids), whole_logits(text, ids))


# --- other files of the same weights

FILES = ["gemma1-mqa", "gemma2", "gemma3n-text", "gemma4-dense", "gemma4-e2b", "gemma4-moe"]
"""One of each family, with a GGUF file beside it."""

every_family = pytest.mark.parametrize("case", FILES)


def as_type(kind: str) -> Callable[[Stored], Stored]:
    """All tensors as F32 or F16: bfloat16 numbers are such numbers too, but very small ones as F16."""

    def convert(tensors: Stored) -> Stored:
        return {name: (kind, shape, _converted(data, kind)) for name, (_, shape, data) in tensors.items()}

    return convert


def _converted(data: bytes, kind: str) -> bytes:
    numbers = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32 if kind == "F32" else np.float16).tobytes()


@every_family
@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_float32_and_float16_files_give_the_same_logits(tmp_path: Path, case: str, kind: str) -> None:
    expected = golden(case)
    folder = copy_folder(TINY / case, tmp_path / "model", tensors=as_type(kind))
    with opened(folder, **EXACT) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


def shard(folder: Path) -> Path:
    """Split a folder's tensors over two files with an index."""
    tensors = read_safetensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    parts = [names[::2], names[1::2]]
    for file, part in zip(files, parts, strict=True):
        write_safetensors(folder / file, {name: tensors[name] for name in part})
    index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    return folder


@every_family
def test_a_sharded_checkpoint_says_what_a_single_file_says_and_half_of_it_nothing(tmp_path: Path, case: str) -> None:
    ids = golden(case)["input_ids"].tolist()
    folder = shard(copy_folder(TINY / case, tmp_path / "model"))
    with opened(case) as single, opened(folder) as sharded:
        assert np.array_equal(whole_logits(sharded, ids), whole_logits(single, ids))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MogemmaError, match="model-00002-of-00002"), opened(folder):
        pass


@every_family
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantised_gguf_files_run_in_both_arithmetics(tmp_path: Path, level: str, case: str, kind: str) -> None:
    """In float32 they are the model of the weights that the blocks hold, in int8 near it."""
    ids = golden(case)["input_ids"].tolist()
    blocks = quantise_gguf(TINY / case / "model.gguf", tmp_path / "q.gguf", gguf.GGMLQuantizationType[kind])
    plain = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in gguf.GGUFReader(blocks).tensors
    }
    floats = copy_gguf(blocks, tmp_path / "f.gguf", tensors=plain)
    with opened(floats, **EXACT, level=level) as runner:
        expected = whole_logits(runner, ids)
    with opened(blocks, **EXACT, level=level) as runner:
        assert np.abs(whole_logits(runner, ids) - expected).max() < 1e-4
    with opened(blocks, cache="f32", level=level) as runner:
        error = whole_logits(runner, ids) - expected
    assert 0 < np.sqrt((error**2).mean()) < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("case", "config", "tensor"),
    [
        ("gemma1-mqa", {"num_key_value_heads": 4}, "k_proj"),
        ("gemma2", {"head_dim": 32}, "q_proj"),
        ("gemma3n-text", {"laurel_rank": 5}, "laurel"),
        ("gemma3n-text", {"altup_num_inputs": 3}, "altup"),
        ("gemma3n-text", {"vocab_size_per_layer_input": 512}, "embed_tokens_per_layer"),
        ("gemma3n-text", {"intermediate_size": 48}, r"layers\.5\.mlp"),
        ("gemma4-dense", {"attention_k_eq_v": False, "num_kv_shared_layers": 1}, r"layers\.2\.self_attn\.v_proj"),
        ("gemma4-dense", {"per_layer_config": None, "global_head_dim": 32}, r"layers\.2"),
        ("gemma4-e2b", {"hidden_size_per_layer_input": 16}, "per_layer"),
        ("gemma4-e2b", {"use_double_wide_mlp": False}, r"layers\.5\.mlp"),
        ("gemma4-e2b", {"num_kv_shared_layers": 2}, r"layers\.5"),
        ("gemma4-moe", {"num_experts": 5}, "router|experts"),
        ("gemma4-moe", {"moe_intermediate_size": 12}, "experts"),
        ("gemma4-moe", {"num_hidden_layers": 2, "layer_types": None}, r"layers\.2"),
    ],
)
def test_a_configuration_of_another_model_is_an_error_that_names_a_tensor(
    tmp_path: Path, case: str, config: dict[str, Any], tensor: str
) -> None:
    folder = copy_folder(TINY / case, tmp_path / "model", config)
    with pytest.raises(ModelFormatError, match=tensor), opened(folder):
        pass


GEMMA_1_KEYS = {
    "context_length": 256,
    "embedding_length": 40,
    "block_count": 2,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-6,
}
UNIFIED_KEYS = {
    "context_length": 256,
    "embedding_length": 32,
    "block_count": 3,
    "feed_forward_length": 40,
    "attention.head_count": 4,
    "attention.head_count_kv": [2, 2, 1],
    "attention.key_length": 32,
    "attention.value_length": 32,
    "attention.key_length_swa": 16,
    "attention.value_length_swa": 16,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.sliding_window": 8,
    "attention.sliding_window_pattern": [True, True, False],
    "rope.freq_base": 1e6,
    "rope.freq_base_swa": 1e4,
    "final_logit_softcapping": 3.0,
}


def test_a_gemma_1_with_a_key_for_each_head_runs_from_gguf(tmp_path: Path) -> None:
    expected = golden("gemma1-mha")
    path = convert_to_gguf(TINY / "gemma1-mha", tmp_path / "m.gguf", "gemma", GEMMA_1_KEYS, fold=True)
    with opened(path, **EXACT) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


def test_a_unified_gemma_4_runs_from_gguf(tmp_path: Path) -> None:
    expected = golden("gemma4-unified")
    path = convert_to_gguf(TINY / "gemma4-unified", tmp_path / "m.gguf", "gemma4", UNIFIED_KEYS, fold=False)
    divisors = np.array([1.0] * 4 + [1e30] * 12, np.float32)
    path = copy_gguf(path, tmp_path / "turning.gguf", tensors={"rope_freqs.weight": divisors})
    with opened(path, **EXACT) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_experts_apart_or_together_are_the_same(tmp_path: Path, kind: str) -> None:
    """Files have the gates and the other half of all experts in one tensor, or in two."""
    together = quantise_gguf(TINY / "gemma4-moe" / "model.gguf", tmp_path / "a.gguf", gguf.GGMLQuantizationType[kind])
    halves = {}
    for tensor in gguf.GGUFReader(together).tensors:
        if "gate_up_exps" in tensor.name:
            for part, name in enumerate(("gate", "up")):
                rows = np.ascontiguousarray(np.asarray(tensor.data)[:, 24 * part : 24 * (part + 1)])
                halves[tensor.name.replace("gate_up", name)] = rows, tensor.tensor_type
    apart = copy_gguf(
        together,
        tmp_path / "b.gguf",
        tensors=halves,
        leave_out=[f"blk.{index}.ffn_gate_up_exps.weight" for index in range(3)],
    )
    ids = golden("gemma4-moe")["input_ids"].tolist()
    with opened(together) as one, opened(apart) as other:
        assert np.array_equal(whole_logits(one, ids), whole_logits(other, ids))


# --- embeddings


@pytest.fixture
def golden_texts() -> tuple[list[list[int]], Floats]:
    """Token ids and vectors of EmbeddingGemma 2; the goldens pad to the right, which an engine does not need."""
    expected = golden("embeddinggemma2")
    rows = zip(expected["input_ids"], expected["attention_mask"], strict=True)
    return [ids[mask > 0].tolist() for ids, mask in rows], expected["embedding"]


def test_vectors_of_embeddinggemma_2_are_those_of_the_reference_implementation(
    golden_texts: tuple[list[list[int]], Floats],
) -> None:
    texts, expected = golden_texts
    with EmbeddingModel(TINY / "embeddinggemma2", threads=1, arithmetic="float32") as model:
        assert (model.dimensions, model.info.family, model.info.generates) == (40, "embeddinggemma2", False)
        vectors = model.embed(texts)
        assert np.abs(vectors - expected).max() < 1e-5
        assert np.array_equal(vectors, np.concatenate([model.embed([text]) for text in texts]))
        short = expected[:, :16] / np.linalg.norm(expected[:, :16], axis=1, keepdims=True)
        assert np.abs(model.embed(texts, dimensions=16) - short).max() < 1e-5


def test_vectors_of_embeddinggemma_2_do_not_depend_on_threads_and_hardly_on_8_bits(
    golden_texts: tuple[list[list[int]], Floats],
) -> None:
    texts, expected = golden_texts
    vectors = []
    for threads in (1, 3):
        with EmbeddingModel(TINY / "embeddinggemma2", threads=threads, quantize="q8_0") as model:
            vectors.append(model.embed(texts))
    assert np.array_equal(vectors[0], vectors[1])
    assert ((vectors[0] * expected).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize("case", FILES)
def test_every_family_that_writes_gives_vectors_too(case: str) -> None:
    """The mean of its hidden states: keys and values that are read again live for the call as well."""
    ids = golden(case)["input_ids"].tolist()
    with EmbeddingModel(TINY / case, threads=2, arithmetic="float32") as model:
        together = model.embed([ids[:5], ids, ids[:17]])
        assert np.array_equal(together, np.concatenate([model.embed([one]) for one in (ids[:5], ids, ids[:17])]))
        assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6


# --- what they cost


def test_the_table_of_per_layer_embeddings_is_neither_packed_nor_read_as_a_whole() -> None:
    with opened("gemma4-e2b", quantize="q8_0") as runner:
        matrices = [matrix.native for matrix in runner.engine.matrices.all]
        table = runner.engine._model.ple_embedding
        assert table.layout == 0
        assert table.format == gguf.GGMLQuantizationType.BF16
        assert all(
            matrix != runner.engine.kernel.ffi.addressof(runner.engine._model, "ple_embedding") for matrix in matrices
        )


def test_a_router_stays_as_it_is_stored() -> None:
    """Eight bits would send tokens to other experts."""
    with opened("gemma4-moe", quantize="q8_0") as runner:
        layer = runner.engine._model.layers[0]
        assert (layer.router.layout, layer.router.format) == (0, gguf.GGMLQuantizationType.BF16)
        assert (layer.experts[5].gate_proj.layout, layer.experts[5].gate_proj.format) == (
            1,
            gguf.GGMLQuantizationType.Q8_0,
        )
