"""Model files of strangers, loaded through the public classes: a sentence with file and field, at once, and nothing left behind.

What the readers refuse is in checkpoint/, what architectures refuse in architectures/; here the whole way from a path is gone.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import struct
import time
import tracemalloc
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, Stored, copy_folder, copy_gguf, write_safetensors

from mogemma import (
    EmbeddingModel,
    ModelFormatError,
    ModelNotFoundError,
    MogemmaError,
    SyncGemmaModel,
    TokenizerError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Bad(NamedTuple):
    build: Callable[[Path], Path]
    error: type[MogemmaError]
    says: str
    """What the message has to name."""
    model: type[SyncGemmaModel | EmbeddingModel] = SyncGemmaModel


def config(**fields: Any) -> Callable[[Path], Path]:
    """The tiny Gemma with other fields in its config.json."""
    return lambda folder: copy_folder(GEMMA, folder / "model", fields)


def metadata(**fields: Any) -> Callable[[Path], Path]:
    """The tiny Gemma with other fields `gemma3.*` in its GGUF file."""
    keys = {f"gemma3.{name.replace('__', '.')}": value for name, value in fields.items()}
    return lambda folder: copy_gguf(GEMMA / "model.gguf", folder / "model.gguf", keys)


def weights(tensors: Callable[[Stored], Stored]) -> Callable[[Path], Path]:
    return lambda folder: copy_folder(GEMMA, folder / "model", tensors=tensors)


def gguf(source: Path = GEMMA, **changes: Any) -> Callable[[Path], Path]:
    return lambda folder: copy_gguf(source / "model.gguf", folder / "model.gguf", **changes)


def embedding(**changes: Any) -> Callable[[Path], Path]:
    return lambda folder: copy_folder(EMBEDDING_GEMMA, folder / "model", **changes)


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[Path], Path]:
    """The tiny EmbeddingGemma with one JSON file changed."""

    def build(folder: Path) -> Path:
        path = copy_folder(EMBEDDING_GEMMA, folder / "model")
        (path / name).write_text(json.dumps(change(json.loads((path / name).read_bytes()))), encoding="utf-8")
        return path

    return build


def file(name: str, content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return build


def cut(source: Path, n_bytes: int) -> Callable[[Path], Path]:
    return file(source.name, source.read_bytes()[:n_bytes])


def shortened(folder: Path) -> Path:
    path = copy_folder(GEMMA, folder / "model")
    os.truncate(path / "model.safetensors", 100_000)
    return path


def adapter(folder: Path) -> Path:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    write_safetensors(folder / "adapter_model.safetensors", {"a.lora_A.weight": ("F32", (1,), bytes(4))})
    return folder


def half_sharded(folder: Path) -> Path:
    path = copy_folder(GEMMA, folder / "model")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (path / "model.safetensors").rename(path / names[0])
    index = {"weight_map": {"model.norm.weight": names[0], "model.embed_tokens.weight": names[1]}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return path


def reshaped(name: str, shape: tuple[int, ...]) -> Callable[[Stored], Stored]:
    return lambda tensors: {**tensors, name: (tensors[name][0], shape, tensors[name][2])}


def without(name: str) -> Callable[[Stored], Stored]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


LAYER = "model.layers.3."
F32 = partial(np.zeros, dtype=np.float32)
BAD: dict[str, Bad] = {
    # nothing there, or no model
    "no such path": Bad(lambda folder: folder / "gemma.gguf", ModelNotFoundError, r"gemma\.gguf"),
    "an empty folder": Bad(lambda folder: folder, ModelNotFoundError, "holds no model"),
    "an empty file": Bad(file("m.gguf", b""), ModelFormatError, r"m\.gguf"),
    "a text": Bad(file("m.gguf", b"Dear reader, " * 100), ModelFormatError, r"m\.gguf"),
    "a page in place of a download": Bad(file("m.gguf", b"<!DOCTYPE html><html>"), ModelFormatError, r"m\.gguf"),
    "a GGUF file cut short": Bad(cut(GEMMA / "model.gguf", 200_000), ModelFormatError, r"model\.gguf"),
    "a folder cut short": Bad(shortened, ModelFormatError, r"model\.safetensors"),
    "an adapter": Bad(adapter, ModelNotFoundError, r"holds an adapter \(LoRA\)"),
    "an adapter in GGUF": Bad(
        gguf(metadata={"general.type": "adapter"}), UnsupportedModelError, r"model\.gguf.*adapter \(LoRA\)"
    ),
    "half a sharded checkpoint": Bad(half_sharded, ModelNotFoundError, "half a sharded.*model-00002-of-00002"),
    # another model
    "another model type": Bad(config(model_type="llama"), UnsupportedModelError, "model type 'llama'.*gemma3"),
    "no model type": Bad(config(model_type=None), UnsupportedModelError, "model type None"),
    "a model type that is a list": Bad(config(model_type=["gemma3"]), UnsupportedModelError, "model type"),
    "a text config that is a number": Bad(config(text_config=3), UnsupportedModelError, "'text_config'"),
    "another GGUF architecture": Bad(
        gguf(metadata={"general.architecture": "llama"}), UnsupportedModelError, "GGUF architecture 'llama'.*gemma3"
    ),
    "no GGUF architecture": Bad(gguf(metadata={"general.architecture": None}), UnsupportedModelError, "GGUF arch"),
    "a list of GGUF architectures": Bad(
        gguf(metadata={"general.architecture": [1, 2]}), UnsupportedModelError, "GGUF architecture"
    ),
    # a configuration that contradicts the weights
    "too many layers": Bad(config(num_hidden_layers=8, layer_types=None), ModelFormatError, r"model\.layers\.7\."),
    "too few layers": Bad(config(num_hidden_layers=6, layer_types=None), ModelFormatError, r"6 layers.*layers\.6\."),
    "too few GGUF layers": Bad(metadata(block_count=6), ModelFormatError, r"6 layers.*blk\.6\."),
    "too many GGUF layers": Bad(metadata(block_count=8), ModelFormatError, r"'blk\.7\."),
    "another hidden size": Bad(config(hidden_size=48), ModelFormatError, r"embed_tokens.*\(512, 40\).*\(512, 48\)"),
    "another vocabulary": Bad(config(vocab_size=500), ModelFormatError, r"embed_tokens.*\(512, 40\).*\(500, 40\)"),
    "other heads": Bad(config(num_attention_heads=2), ModelFormatError, r"q_proj.*\(64, 40\).*\(32, 40\)"),
    "another mlp": Bad(config(intermediate_size=57), ModelFormatError, r"gate_proj.*\(56, 40\).*\(57, 40\)"),
    "heads that share unevenly": Bad(config(num_key_value_heads=3), ModelFormatError, "4 heads cannot share 3 heads"),
    "two families at once": Bad(
        config(text_config={"model_type": "gemma2"}), ModelFormatError, "both 'gemma2' and 'gemma3_text'"
    ),
    "layer types of another length": Bad(config(layer_types=["full_attention"]), ModelFormatError, "'layer_types'"),
    # fields of the wrong kind
    "a size that is a text": Bad(config(hidden_size="40"), ModelFormatError, r"config\.json: 'hidden_size' is '40'"),
    "a size that is NaN": Bad(config(hidden_size=math.nan), ModelFormatError, r"config\.json: 'hidden_size' is nan"),
    "a size that is huge": Bad(config(hidden_size=10**60), ModelFormatError, r"config\.json: 'hidden_size'"),
    "a size that is negative": Bad(config(num_hidden_layers=-7), ModelFormatError, "'num_hidden_layers' is -7"),
    "a size that is 2**63": Bad(config(max_position_embeddings=2**63), ModelFormatError, "'max_position_embeddings'"),
    "an unknown kind of layer": Bad(config(layer_types=["x"] * 7), ModelFormatError, "'layer_types'"),
    "heads of 24": Bad(config(head_dim=24), UnsupportedModelError, r"head_dim.*multiples of 16"),
    "rope of another kind": Bad(
        config(rope_parameters={"full_attention": {"rope_type": "yarn"}, "sliding_attention": {}}),
        UnsupportedModelError,
        "'rope_type' is 'yarn'",
    ),
    "rope that is a number": Bad(config(rope_parameters=3), ModelFormatError, "'rope_parameters'"),
    "another activation": Bad(config(hidden_activation="silu"), UnsupportedModelError, "'hidden_activation'"),
    "a GGUF size that is a text": Bad(metadata(context_length="a"), ModelFormatError, r"'gemma3\.context_length'"),
    "a GGUF size that is missing": Bad(metadata(embedding_length=None), ModelFormatError, r"embedding_length'"),
    "a GGUF size per layer": Bad(metadata(attention__head_count=[4] * 7), ModelFormatError, r"attention\.head_count'"),
    "a GGUF number that is NaN": Bad(metadata(rope__freq_base=math.nan), ModelFormatError, r"rope\.freq_base' is nan"),
    "a sampling default of NaN": Bad(
        gguf(metadata={"general.sampling.temp": math.nan}), ModelFormatError, r"'general\.sampling\.temp'"
    ),
    # weights
    "a missing tensor": Bad(weights(without(f"{LAYER}mlp.up_proj.weight")), ModelFormatError, r"3\.mlp\.up_proj"),
    "no embeddings": Bad(weights(without("model.embed_tokens.weight")), ModelFormatError, r"embed_tokens\.weight"),
    "a turned matrix": Bad(
        weights(reshaped(f"{LAYER}self_attn.q_proj.weight", (40, 64))), ModelFormatError, r"q_proj.*\(40, 64\)"
    ),
    "a matrix that is a vector": Bad(
        weights(reshaped(f"{LAYER}self_attn.q_proj.weight", (2560,))), ModelFormatError, r"q_proj.*\(2560,\)"
    ),
    "a type that nobody runs": Bad(
        weights(lambda tensors: {**tensors, "model.norm.weight": ("I8", (40,), bytes(40))}),
        UnsupportedModelError,
        "'model.norm.weight'.*'I8'",
    ),
    "a missing GGUF tensor": Bad(
        gguf(leave_out=["blk.3.attn_q.weight"]), ModelFormatError, r"'blk\.3\.attn_q\.weight'"
    ),
    "GGUF embeddings that are a vector": Bad(
        gguf(tensors={"token_embd.weight": F32(40)}), ModelFormatError, r"'token_embd\.weight' has shape \(40,\)"
    ),
    "a GGUF head of another size": Bad(
        gguf(tensors={"output.weight": F32((512, 41))}), ModelFormatError, r"'output\.weight' has shape \(512, 41\)"
    ),
    "a GGUF type that nobody runs": Bad(
        gguf(tensors={"token_embd.weight": F32((512, 40)).astype(np.float64)}), UnsupportedModelError, "F64"
    ),
    # EmbeddingGemma
    "an embedding model": Bad(embedding(), UnsupportedModelError, "Load it with EmbeddingModel"),
    "no modules": Bad(embedding(leave_out=["modules.json"]), UnsupportedModelError, "dense heads", EmbeddingModel),
    "no dense folder": Bad(embedding(leave_out=["3_Dense"]), ModelNotFoundError, "3_Dense", EmbeddingModel),
    "modules that are a text": Bad(
        edited("modules.json", lambda _: "all"), ModelFormatError, r"modules\.json", EmbeddingModel
    ),
    "a module that nobody knows": Bad(
        edited("modules.json", lambda modules: [*modules, {"type": "a.b.Magic", "path": "5"}]),
        UnsupportedModelError,
        "'Magic'",
        EmbeddingModel,
    ),
    "a dense head outside the folder": Bad(
        edited("modules.json", lambda modules: [{**modules[2], "path": "../2_Dense"}]),
        ModelFormatError,
        r"\.\./2_Dense",
        EmbeddingModel,
    ),
    "pooling by the last token": Bad(
        edited("1_Pooling/config.json", lambda _: {"pooling_mode_lasttoken": True}),
        UnsupportedModelError,
        "lasttoken",
        EmbeddingModel,
    ),
    "dense heads in the wrong order": Bad(
        edited("modules.json", lambda modules: [*modules[:2], modules[3], modules[2]]),
        ModelFormatError,
        r"3_Dense.*\(36, 72\).*takes 36",
        EmbeddingModel,
    ),
    "no GGUF heads": Bad(
        gguf(EMBEDDING_GEMMA, leave_out=["dense_2.weight", "dense_3.weight"]),
        UnsupportedModelError,
        "no dense heads",
        EmbeddingModel,
    ),
    "half the GGUF heads": Bad(
        gguf(EMBEDDING_GEMMA, leave_out=["dense_3.weight"]), ModelFormatError, r"dense_3\.weight", EmbeddingModel
    ),
    "a GGUF head that is a vector": Bad(
        gguf(EMBEDDING_GEMMA, tensors={"dense_2.weight": F32(36)}), ModelFormatError, r"dense_2\.weight", EmbeddingModel
    ),
    "another GGUF pooling": Bad(
        gguf(EMBEDDING_GEMMA, metadata={"gemma-embedding.pooling_type": 3}),
        UnsupportedModelError,
        "pooling type 3",
        EmbeddingModel,
    ),
    "a list of GGUF poolings": Bad(
        gguf(EMBEDDING_GEMMA, metadata={"gemma-embedding.pooling_type": [1, 1]}),
        UnsupportedModelError,
        "pooling type",
        EmbeddingModel,
    ),
}


def mapped_below(folder: Path) -> list[str]:
    """Lines of the process's memory map that show files in a folder."""
    maps = Path("/proc/self/maps")
    return [line for line in maps.read_text().splitlines() if str(folder) in line] if maps.exists() else []


def n_threads_now() -> int:
    """The kernels' own among them, where the system tells."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


@contextmanager
def costs_little() -> Iterator[None]:
    """Under a second, and a few megabytes."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        assert time.process_time() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_checkpoint_is_refused_by_a_sentence_at_once_and_nothing_stays_mapped(name: str, tmp_path: Path) -> None:
    """Nor does a thread stay; even while the exception, whose traceback holds everybody's variables, is being looked at."""
    bad = BAD[name]
    path = bad.build(tmp_path)
    n_threads = n_threads_now()
    with costs_little(), pytest.raises(bad.error, match=bad.says) as caught:
        bad.model(path)
    assert str(tmp_path) in str(caught.value) or name == "an embedding model", "there the file is in order"
    assert mapped_below(tmp_path) == []
    assert n_threads_now() <= n_threads


def test_the_older_spelling_of_a_configuration_gives_the_same_text(tmp_path: Path) -> None:
    older = copy_folder(GEMMA, tmp_path / "model")
    shutil.copy(GEMMA / "config.legacy.json", older / "config.json")
    with SyncGemmaModel(older, threads=1) as old, SyncGemmaModel(GEMMA, threads=1) as new:
        assert np.array_equal(old.logits([2, 300, 17, 5]), new.logits([2, 300, 17, 5]))
        assert old.generate("Once", max_tokens=20, seed=1) == new.generate("Once", max_tokens=20, seed=1)


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
def test_the_text_model_inside_a_multimodal_one_runs(tmp_path: Path, prefix: str) -> None:
    def inside(tensors: Stored) -> Stored:
        moved = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
        return {"vision_tower.x.weight": ("F32", (1,), bytes(4)), **moved}

    text = json.loads((GEMMA / "config.json").read_bytes())
    multimodal = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}
    fields = {**dict.fromkeys(text), **multimodal}
    path = copy_folder(GEMMA, tmp_path / "model", fields, tensors=inside)
    with SyncGemmaModel(path, threads=1) as whole, SyncGemmaModel(GEMMA, threads=1) as alone:
        assert np.array_equal(whole.logits([2, 300, 17, 5]), alone.logits([2, 300, 17, 5]))


def tokens_for_another(folder: Path, n_tokens: int) -> Path:
    """The tiny Gemma with a tokenizer.json of so many tokens, those beyond the model's 512 made of letters."""
    path = copy_folder(GEMMA, folder / "model")
    tokenizer = json.loads((path / "tokenizer.json").read_bytes())
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    model["vocab"] = {text: token for text, token in model["vocab"].items() if token < n_tokens}
    model["vocab"] |= {chr(0x4E00 + token): token for token in range(512, n_tokens)}
    known = {text for text, token in model["vocab"].items()}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in known]
    tokenizer["added_tokens"] = [token for token in added if token["id"] < n_tokens]
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return path


@pytest.mark.parametrize("n_tokens", [400, 500, 513, 600])
def test_a_tokenizer_of_another_model_is_said_to_be_one_and_ids_run(tmp_path: Path, n_tokens: int) -> None:
    path = tokens_for_another(tmp_path, n_tokens)
    with SyncGemmaModel(path, threads=1) as model:
        assert np.isfinite(model.logits([2, 7, 9])).all()
        for use in (model.generate, model.count_tokens, lambda text: model.chat([{"role": "user", "content": text}])):
            with pytest.raises(TokenizerError, match=rf"has {n_tokens} tokens, the model 512: it is another model's"):
                use("Hello")


def test_a_tokenizer_may_name_placeholders_that_the_model_lacks_and_a_model_may_be_padded(tmp_path: Path) -> None:
    """Gemma 3 1B has no place for an image, which its tokenizer names; Gemma 3 4B has 64 tokens without a name."""
    path = copy_folder(GEMMA, tmp_path / "more")
    tokenizer = json.loads((path / "tokenizer.json").read_bytes())
    tokenizer["added_tokens"].append({"id": 512, "content": "<|placeholder|>", "special": True})
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    for one in (path, tokens_for_another(tmp_path, 505)):
        with SyncGemmaModel(one, threads=1) as model, SyncGemmaModel(GEMMA, threads=1) as whole:
            assert model.tokenizer.encode("Hello") == whole.tokenizer.encode("Hello")


def use(model: type[SyncGemmaModel | EmbeddingModel], path: Path) -> None:
    """Everything that reads the file."""
    with model(path, threads=1) as loaded:
        if isinstance(loaded, SyncGemmaModel):
            loaded.generate([2, 3, 4], max_tokens=3, temperature=0)
            loaded.chat([{"role": "user", "content": "Hello wörld\n"}], max_tokens=2)
        else:
            loaded.embed_query("Hello wörld\n")


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few bytes or numbers in the first part of a GGUF file overwritten, put in, or its end cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(4, 16_000)
        number = chance.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, chance.randrange(1000)])
        match chance.randrange(5):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.randrange(256)
            case 2:
                changed[at : at + 8] = struct.pack("<Q", number)
            case 3:
                changed[at : at + 4] = struct.pack("<I", number % 2**32)
            case _:
                changed[at:at] = chance.randbytes(chance.randrange(1, 50))
    return bytes(changed)


@pytest.mark.parametrize("model", [SyncGemmaModel, EmbeddingModel])
def test_a_damaged_gguf_file_runs_or_is_refused(model: type[SyncGemmaModel | EmbeddingModel], tmp_path: Path) -> None:
    chance = random.Random(1)
    data = ((GEMMA if model is SyncGemmaModel else EMBEDDING_GEMMA) / "model.gguf").read_bytes()
    n_refused = 0
    for _ in range(150):
        path = tmp_path / "model.gguf"
        path.write_bytes(damaged(data, chance))
        try:
            use(model, path)
        except MogemmaError:
            n_refused += 1
    assert n_refused > 30


STRANGE: list[Any] = [None, True, 0, -1, 2, 7, 16, 2**31, 2**63, 10**40, 0.5, 1e-30, 1e300, math.nan, math.inf]
STRANGE += ["", "linear", "../..", [], ["a"], [[1]], {}, {"a": 1}]


def strange(value: Any, chance: random.Random) -> Any:
    """The same JSON with one value, at any depth, taken away or replaced."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.1:
        return chance.choice(STRANGE)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = chance.choice(keys)
    if chance.random() < 0.15:
        del value[key]
    else:
        value[key] = strange(value[key], chance)
    return value


@pytest.mark.parametrize("source", [GEMMA, EMBEDDING_GEMMA], ids=lambda source: source.name)
def test_a_folder_with_strange_json_runs_or_is_refused(source: Path, tmp_path: Path) -> None:
    chance = random.Random(2)
    folder = copy_folder(source, tmp_path / "model")
    (folder / "generation_config.json").write_text(
        '{"eos_token_id": [1], "top_k": 64, "top_p": 0.95}', encoding="utf-8"
    )
    paths = sorted(path for path in folder.rglob("*.json") if path.name != "tokenizer.json")
    n_refused = 0
    for _ in range(200):
        path = chance.choice(paths)
        before = path.read_bytes()
        path.write_text(json.dumps(strange(json.loads(before), chance)), encoding="utf-8")
        try:
            use(SyncGemmaModel if source == GEMMA else EmbeddingModel, folder)
        except MogemmaError:
            n_refused += 1
        path.write_bytes(before)
    assert n_refused > 30
