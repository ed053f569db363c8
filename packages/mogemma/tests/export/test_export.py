"""A GGUF file that was written is the model it was written from: for this library, and for ggml's own reader."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from blocks import weights_of
from checkpoints import EMBEDDING_GEMMA, GEMMA, QUANT_ZOO, copy_folder
from encoders import encode
from wide import write_wide

from mogemma import EmbeddingModel, SyncGemmaModel
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, TokenizerError, UnsupportedModelError
from mogemma.export import Written, write_gguf
from mogemma.weight_types import TYPE_OF, WEIGHT_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from checkpoints import Stored

IDS = [2, 7, 11, 3, 5, 130, 17, 499]
TEXTS = [[2, *range(5, 5 + n), 1] for n in (1, 3, 9, 14)]
ON_LOAD = ("q8_0", "q6_k", "q4_k", "q4_0", "bf16")
every_type = pytest.mark.parametrize("kind", WEIGHT_TYPES)


def written(source: Path, target: Path, kind: str, *, threads: int = 2) -> Written:
    with open_checkpoint(source) as checkpoint:
        return write_gguf(checkpoint, target, kind, threads=threads)


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys and tensors as ggml's reader finds them."""
    reader = gguf.GGUFReader(path)
    keys = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


# --- the same model


@pytest.mark.parametrize("kind", ON_LOAD)
def test_a_file_gives_the_logits_of_the_same_weights_quantised_on_load(
    gemma_path: Path, tmp_path: Path, kind: Any
) -> None:
    """To the bit. (The token embeddings here are numbers that every format holds; on load they stay what they are.)"""
    written(gemma_path, tmp_path / "model.gguf", kind)
    with SyncGemmaModel(gemma_path, quantize=kind) as loaded, SyncGemmaModel(tmp_path / "model.gguf") as file:
        assert np.array_equal(file.logits(IDS), loaded.logits(IDS))
        assert file.info.family == loaded.info.family == "gemma3"
        assert file.info.max_context == loaded.info.max_context


@pytest.mark.parametrize("kind", ON_LOAD)
def test_a_file_gives_the_vectors_of_the_same_weights_quantised_on_load(
    embedder_path: Path, tmp_path: Path, kind: Any
) -> None:
    written(embedder_path, tmp_path / "model.gguf", kind)
    with EmbeddingModel(embedder_path, quantize=kind) as loaded, EmbeddingModel(tmp_path / "model.gguf") as file:
        assert np.array_equal(file.embed(TEXTS), loaded.embed(TEXTS))
        assert file.info.family == loaded.info.family == "embeddinggemma"


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_float_files_give_the_results_of_their_weights(
    gemma_path: Path, embedder_path: Path, tmp_path: Path, kind: str
) -> None:
    """Of float32 weights the very same; of float16 near ones."""
    written(gemma_path, tmp_path / "model.gguf", kind)
    written(embedder_path, tmp_path / "embedder.gguf", kind)
    with SyncGemmaModel(gemma_path) as loaded, SyncGemmaModel(tmp_path / "model.gguf") as file:
        ours, theirs = file.logits(IDS), loaded.logits(IDS)
        assert np.array_equal(ours, theirs) == (kind == "f32")
        assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()
    with EmbeddingModel(embedder_path) as loaded, EmbeddingModel(tmp_path / "embedder.gguf") as file:
        assert (loaded.embed(TEXTS) * file.embed(TEXTS)).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("folder", [GEMMA, EMBEDDING_GEMMA], ids=lambda folder: folder.name)
def test_a_bfloat16_file_has_the_keys_and_tensors_of_one_by_another_converter(folder: Path, tmp_path: Path) -> None:
    """The tiny GGUF files come from the script that made the golden outputs."""
    written(folder, tmp_path / "model.gguf", "bf16")
    ours, our_tensors = contents(tmp_path / "model.gguf")
    theirs, their_tensors = contents(folder / "model.gguf")
    differing = {"general.name", "tokenizer.ggml.scores"}
    assert {key: ours.get(key) for key in theirs if key not in differing} == {
        key: value for key, value in theirs.items() if key not in differing
    }
    assert our_tensors.keys() == their_tensors.keys()
    for name, tensor in their_tensors.items():
        ours_now = our_tensors[name]
        assert ours_now.shape.tolist() == tensor.shape.tolist()
        if name.startswith("dense_"):  # float32 in the folder, in rows of 36 and 72: no whole 32, so they stay that
            rounded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.allclose(ours_now.data, rounded, rtol=2**-8, atol=0)
            continue
        assert ours_now.tensor_type == tensor.tensor_type
        assert np.array_equal(ours_now.data, tensor.data)


@every_type
def test_ggmls_reader_finds_the_blocks_of_the_plain_encoder(gemma_path: Path, tmp_path: Path, kind: str) -> None:
    summary = written(gemma_path, tmp_path / "model.gguf", kind)
    keys, tensors = contents(tmp_path / "model.gguf")
    assert keys["general.architecture"] == "gemma3"
    assert keys["general.quantization_version"] == 2
    with open_checkpoint(gemma_path) as checkpoint:
        names = {"blk.3.ffn_down": "model.layers.3.mlp.down_proj", "token_embd": "model.embed_tokens"}
        for ours, theirs in names.items():
            weights, tensor = checkpoint.tensor(f"{theirs}.weight").to_float32(), tensors[f"{ours}.weight"]
            wanted = WEIGHT_TYPES[kind].head if ours == "token_embd" else WEIGHT_TYPES[kind].layers
            assert tensor.tensor_type == wanted[0]
            assert np.array_equal(
                tensor.data.reshape(len(weights), -1).view(np.uint8), encode(TYPE_OF[wanted[0]], weights)
            )
            plain = {"n_rows": len(weights), "n_columns": weights.shape[1], "format": int(wanted[0])}
            dequantised = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(weights_of({**plain, "data": tensor.data.tobytes()}), dequantised)
        norm = checkpoint.tensor("model.norm.weight").to_float32() + np.float32(1)
    assert np.array_equal(tensors["output_norm.weight"].data, norm)
    assert summary.n_tensors == len(tensors) == sum(summary.formats.values())
    assert summary.written_bytes == (tmp_path / "model.gguf").stat().st_size


def test_any_number_of_threads_writes_the_same_file(gemma_path: Path, tmp_path: Path) -> None:
    for threads in (1, 2, 5):
        written(gemma_path, tmp_path / f"{threads}.gguf", "q4_k", threads=threads)
    files = [(tmp_path / f"{threads}.gguf").read_bytes() for threads in (1, 2, 5)]
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("embeds", [False, True])
def test_a_gguf_file_of_floats_can_be_the_source(
    gemma_path: Path, embedder_path: Path, tmp_path: Path, embeds: bool
) -> None:
    source = embedder_path if embeds else gemma_path
    written(source, tmp_path / "floats.gguf", "f32")
    written(source, tmp_path / "direct.gguf", "q4_k")
    written(tmp_path / "floats.gguf", tmp_path / "again.gguf", "q4_k")
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "direct.gguf").read_bytes()


# --- which type a matrix gets


def test_rows_that_are_no_whole_blocks_get_the_next_type_or_stay(tmp_path: Path) -> None:
    """As 640 and 1152 columns are no multiple of 256; and the tiny model's 40 none of 32."""
    source = write_wide(tmp_path / "odd", hidden_size=320, intermediate_size=352)
    assert written(source, tmp_path / "q4_k.gguf", "q4_k").formats == {"F32": 43, "Q4_K": 7, "Q5_0": 42, "Q8_0": 1}
    assert written(source, tmp_path / "q6_k.gguf", "q6_k").formats == {"F32": 43, "Q6_K": 7, "Q8_0": 43}
    with SyncGemmaModel(source, quantize="q4_k") as loaded, SyncGemmaModel(tmp_path / "q4_k.gguf") as file:
        assert np.array_equal(file.logits(IDS), loaded.logits(IDS))
    assert written(GEMMA, tmp_path / "tiny.gguf", "q8_0").formats == {"BF16": 43, "F32": 43, "Q8_0": 7}


def test_dense_heads_are_bfloat16_beside_quantised_layers(embedder_path: Path, tmp_path: Path) -> None:
    written(embedder_path, tmp_path / "model.gguf", "q4_0")
    keys, tensors = contents(tmp_path / "model.gguf")
    assert {name: tensors[f"{name}.weight"].tensor_type.name for name in ("dense_2", "dense_3", "token_embd")} == {
        "dense_2": "BF16",
        "dense_3": "BF16",
        "token_embd": "Q8_0",
    }
    numbers = {
        name: keys[f"gemma-embedding.{name}"] for name in ("pooling_type", "dense_2_feat_out", "dense_3_feat_in")
    }
    assert numbers == {"pooling_type": 1, "dense_2_feat_out": 320, "dense_3_feat_in": 320}


# --- the tokenizer and what else a file says


@pytest.mark.parametrize("source", [GEMMA, EMBEDDING_GEMMA], ids=lambda folder: folder.name)
def test_a_text_has_the_same_ids_by_the_files_tokenizer(source: Path, tmp_path: Path) -> None:
    written(source, tmp_path / "model.gguf", "bf16")
    load: Any = EmbeddingModel if source is EMBEDDING_GEMMA else SyncGemmaModel
    texts = ["The sea  is   deep.\n\n\n\tAnd\t\tblue", "<start_of_turn>user", "▁ é 漢 \U0001f600", " " * 40]
    with load(source) as folder, load(tmp_path / "model.gguf") as file:
        for text in texts:
            for parse_special in (False, True):
                ids = folder.tokenizer.encode(text, parse_special=parse_special)
                assert file.tokenizer.encode(text, parse_special=parse_special) == ids
                assert file.tokenizer.decode(ids) == folder.tokenizer.decode(ids)


def changed(target: Path, config: Mapping[str, Any] | None = None, **files: object) -> Path:
    """The tiny Gemma with another config.json, and JSON files by their names without the ending."""
    folder = copy_folder(GEMMA, target, config)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_sampling_defaults_and_the_chat_template_come_along(tmp_path: Path) -> None:
    config = json.loads((GEMMA / "tokenizer_config.json").read_bytes())
    source = changed(
        tmp_path / "model",
        generation_config={"top_k": 7, "top_p": 0.5, "temperature": 1, "eos_token_id": [1, 106]},
        tokenizer_config={**config, "chat_template": "{{ bos_token }}"},
    )
    written(source, tmp_path / "model.gguf", "bf16")
    keys, _ = contents(tmp_path / "model.gguf")
    assert keys["tokenizer.chat_template"] == "{{ bos_token }}"
    sampling = {key: value for key, value in keys.items() if key.startswith("general.sampling.")}
    assert sampling == {"general.sampling.top_k": 7, "general.sampling.top_p": 0.5, "general.sampling.temp": 1.0}
    (source / "chat_template.jinja").write_text("{{ 'newer' }}", encoding="utf-8")
    written(source, tmp_path / "model.gguf", "bf16")
    assert contents(tmp_path / "model.gguf")[0]["tokenizer.chat_template"] == "{{ 'newer' }}"


def test_what_ends_a_text_and_what_is_never_written_come_along(tmp_path: Path) -> None:
    """Else the file would talk on where the folder ends."""
    with SyncGemmaModel(GEMMA) as model:
        first = model.complete(IDS, temperature=0, max_tokens=1).token_ids[0]
    source = changed(
        tmp_path / "model",
        generation_config={"eos_token_id": [1, 9, 42, 600], "suppress_tokens": [first, 7, 600], "do_sample": False},
    )
    written(source, tmp_path / "model.gguf", "bf16")
    keys, _ = contents(tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.suppress_tokens"] == sorted([first, 7])
    assert [keys[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")] == [1, 9, 42]
    with SyncGemmaModel(source) as folder, SyncGemmaModel(tmp_path / "model.gguf") as file:
        assert file.stop_ids == folder.stop_ids - {600} == {1, 9, 42}  # the model has 512 tokens
        texts = [model.complete(IDS, max_tokens=8).token_ids for model in (folder, file)]
    assert texts[0] == texts[1]
    assert first not in texts[0]


def test_more_ends_than_a_file_can_name_are_refused_and_not_lost(tmp_path: Path) -> None:
    source = changed(tmp_path / "model", generation_config={"eos_token_id": [1, 9, 42, 106]})
    with pytest.raises(
        UnsupportedModelError, match=r"generation_config\.json.*has room for 1 more, not for 2: 42, 106\."
    ):
        written(source, tmp_path / "model.gguf", "bf16")
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize("value", ["hot", [1], -1, True])
def test_a_default_that_cannot_be_used_is_refused_as_on_load(tmp_path: Path, value: object) -> None:
    source = changed(tmp_path / "model", generation_config={"temperature": value})
    with pytest.raises(ModelFormatError, match="the default 'temperature' cannot be used"):
        written(source, tmp_path / "model.gguf", "bf16")
    with pytest.raises(ModelFormatError, match="the default 'temperature' cannot be used"):
        SyncGemmaModel(source)


@pytest.mark.parametrize(
    "config", [[1], {"eos_token_id": "x"}, {"eos_token_id": [None, [1], -1, 2.5]}, {"top_k": 2**40}]
)
def test_what_loading_passes_over_or_takes_is_no_reason_to_fail(tmp_path: Path, config: object) -> None:
    source = changed(tmp_path / "model", generation_config=config)
    written(source, tmp_path / "model.gguf", "bf16")
    with SyncGemmaModel(source) as folder, SyncGemmaModel(tmp_path / "model.gguf") as file:
        texts = [model.complete(IDS, max_tokens=4, seed=1).token_ids for model in (folder, file)]
    assert texts[0] == texts[1]


def test_how_an_embedding_model_writes_is_nobodys_question(tmp_path: Path) -> None:
    """Loading does not ask either."""
    source = copy_folder(EMBEDDING_GEMMA, tmp_path / "model")
    (source / "generation_config.json").write_text('{"temperature": "hot"}', encoding="utf-8")
    written(source, tmp_path / "model.gguf", "bf16")
    with EmbeddingModel(source) as folder, EmbeddingModel(tmp_path / "model.gguf") as file:
        assert np.array_equal(folder.embed(TEXTS), file.embed(TEXTS))


def with_keys(source: Path, target: Path, values: Mapping[str, bytes]) -> None:
    """Put keys into a GGUF file; each value with its type before it. Tensors move by whole 32 bytes."""
    added = b"".join(struct.pack("<Q", len(name)) + name.encode() + value for name, value in values.items())
    room = -(len(added) + struct.calcsize("<QsIQ")) % 32
    added += struct.pack("<QsIQ", 1, b"z", 8, room) + bytes(room)
    data = source.read_bytes()
    magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", data)
    header = struct.pack("<4sIQQ", magic, version, n_tensors, n_keys + len(values) + 1)
    target.write_bytes(header + added + data[len(header) :])


def test_keys_of_a_gguf_file_that_are_empty_or_large_are_no_reason_to_fail(tmp_path: Path) -> None:
    """An empty list says nothing and is left out: the writer has no type for it."""
    large: dict[str, float] = {"a.negative": -(2**40), "a.whole": 2**40, "a.float": 1e300, "a.small": -7}
    codes = {"a.negative": (11, "q"), "a.whole": (10, "Q"), "a.float": (12, "d"), "a.small": (5, "i")}
    keys = {name: struct.pack(f"<I{code}", kind, large[name]) for name, (kind, code) in codes.items()}
    empty = {"a.strings": struct.pack("<IIQ", 9, 8, 0), "a.numbers": struct.pack("<IIQ", 9, 5, 0)}
    written(GEMMA, tmp_path / "source.gguf", "f32")
    with_keys(tmp_path / "source.gguf", tmp_path / "strange.gguf", keys | empty)
    written(tmp_path / "strange.gguf", tmp_path / "model.gguf", "bf16")
    found, _ = contents(tmp_path / "model.gguf")
    assert {name: value for name, value in found.items() if name.startswith("a.")} == large
    with SyncGemmaModel(GEMMA) as folder, SyncGemmaModel(tmp_path / "model.gguf") as file:
        assert np.array_equal(file.logits(IDS), folder.logits(IDS))


def test_of_several_chat_templates_the_default_one_is_taken(tmp_path: Path) -> None:
    several = [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]
    source = changed(tmp_path / "model", tokenizer_config={"chat_template": several})
    written(source, tmp_path / "model.gguf", "bf16")
    assert contents(tmp_path / "model.gguf")[0]["tokenizer.chat_template"] == "b"


def test_rows_without_a_token_get_a_placeholder(tmp_path: Path) -> None:
    """llama.cpp wants as many tokens as there are embeddings."""

    def longer(stored: Stored) -> Stored:
        kind, shape, data = stored["model.embed_tokens.weight"]
        more = bytes(2 * 3 * shape[1])
        return {**stored, "model.embed_tokens.weight": (kind, (shape[0] + 3, shape[1]), data + more)}

    source = copy_folder(GEMMA, tmp_path / "model", {"vocab_size": 515}, tensors=longer)
    written(source, tmp_path / "model.gguf", "bf16")
    keys, tensors = contents(tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.tokens"][-3:] == ["[PAD512]", "[PAD513]", "[PAD514]"]
    assert keys["tokenizer.ggml.token_type"][-3:] == [5, 5, 5]
    assert len(keys["tokenizer.ggml.scores"]) == tensors["token_embd.weight"].shape[1] == 515


# --- what cannot be written


def test_quantised_weights_are_not_quantised_again(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="is quantised already"):
        written(QUANT_ZOO / "model.gguf", tmp_path / "model.gguf", "q4_0")


@pytest.mark.parametrize(
    "config",
    [
        {"query_pre_attn_scalar": 24},
        {"layer_types": ["full_attention"] * 7},
        {"rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0},
        }},
    ],
)  # fmt: skip
def test_what_gguf_cannot_say_is_refused_and_not_left_out(tmp_path: Path, config: dict[str, Any]) -> None:
    """The file would be read as another model."""
    with pytest.raises(UnsupportedModelError, match="differs from what a GGUF file can say"):
        written(changed(tmp_path / "model", config), tmp_path / "model.gguf", "q8_0")


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    source = copy_folder(GEMMA, tmp_path / "model", leave_out=["tokenizer.json"])
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        written(source, tmp_path / "model.gguf", "q8_0")


def test_a_damaged_weight_is_named(gemma_path: Path, tmp_path: Path) -> None:
    def damaged(stored: Stored) -> Stored:
        name = "model.layers.3.mlp.up_proj.weight"
        kind, shape, data = stored[name]
        return {**stored, name: (kind, shape, np.full(1, np.nan, np.float32).tobytes() + data[4:])}

    source = copy_folder(gemma_path, tmp_path / "model", tensors=damaged)
    with pytest.raises(ModelFormatError, match=r"A weight of blk\.3\.ffn_up\.weight is no finite number"):
        written(source, tmp_path / "model.gguf", "q4_k")
    with pytest.raises(ModelFormatError, match="A weight of up_proj of layer 3 is no finite number"):
        SyncGemmaModel(source, quantize="q4_k")
