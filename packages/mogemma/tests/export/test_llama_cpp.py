"""llama.cpp reads what was written: the same ids, logits and vectors within what its own arithmetic rounds away.

Runs where llama-cpp-python is installed, which is no dependency: it compiles llama.cpp for minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mogemma import EmbeddingModel, SyncGemmaModel
from mogemma.checkpoint import open_checkpoint
from mogemma.export import write_gguf
from mogemma.weight_types import WEIGHT_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from blocks import Floats

llama_cpp: Any = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

IDS = [2, 7, 11, 3, 5, 130, 17, 499, 250, 88]
TEXTS = ["The sea  is   deep.\n\n\n\tAnd\t\tblue", "é 漢 \U0001f600", "fish"]
every_type = pytest.mark.parametrize("kind", WEIGHT_TYPES)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(source: Path, kind: str) -> Path:
        with open_checkpoint(source) as checkpoint:
            write_gguf(checkpoint, tmp_path / "model.gguf", kind, threads=2)
        return tmp_path / "model.gguf"

    return written


def difference(ours: Floats, theirs: Floats) -> float:
    """Root of the mean square, as a part of that of theirs."""
    return float(np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean()))


@every_type
def test_logits_are_those_of_llama_cpp(gemma_path: Path, write: Any, kind: str) -> None:
    """It rounds activations to 8 bits where weights are quantised, and keeps keys and values in float16."""
    path = write(gemma_path, kind)
    llama = llama_cpp.Llama(str(path), n_ctx=64, n_threads=2, logits_all=True, verbose=False)
    llama.eval(IDS)
    theirs = np.array(llama.scores[: len(IDS)], np.float32)
    llama.close()
    with SyncGemmaModel(path, arithmetic="float32", cache="f16") as model:
        ours = model.logits(IDS)
    tolerance = {"f32": 0.002, "f16": 0.002, "bf16": 0.01}.get(kind, 0.03)  # it rounds what meets bfloat16 to that too
    assert difference(ours, theirs) < tolerance
    short_of_the_best = theirs.max(axis=1) - np.take_along_axis(theirs, ours.argmax(axis=1)[:, None], axis=1)[:, 0]
    assert short_of_the_best.max() < 4 * tolerance * np.sqrt(np.square(theirs).mean())


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_greedy_tokens_are_those_of_llama_cpp(gemma_path: Path, write: Any, kind: str) -> None:
    """Where it rounds least: this model's weights are random, and some of its choices are close."""
    path = write(gemma_path, kind)
    llama = llama_cpp.Llama(str(path), n_ctx=64, n_threads=2, verbose=False)
    theirs = [token for token, _ in zip(llama.generate(IDS, temp=0.0), range(32), strict=False)]
    llama.close()
    with SyncGemmaModel(path, arithmetic="float32", cache="f16") as model:
        ours = model.complete(IDS, max_tokens=32, temperature=0.0, stop_ids=[]).token_ids
    assert list(ours) == theirs


@every_type
def test_vectors_are_those_of_llama_cpp(embedder_path: Path, write: Any, kind: str) -> None:
    path = write(embedder_path, kind)
    llama = llama_cpp.Llama(str(path), n_ctx=64, n_threads=2, embedding=True, verbose=False)
    theirs = np.array([llama.embed(text, normalize=True) for text in TEXTS], np.float32)
    llama.close()
    with EmbeddingModel(path, arithmetic="float32") as model:
        ours = model.embed(TEXTS)
    assert (ours * theirs).sum(axis=1).min() > 0.998


def test_texts_have_the_same_ids(gemma_path: Path, write: Any) -> None:
    path = write(gemma_path, "q8_0")
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    with SyncGemmaModel(path) as model:
        for text in TEXTS:
            assert llama.tokenize(text.encode()) == model.tokenizer.encode(text)
        turn = "<start_of_turn>user\nHi<end_of_turn>\n"
        assert llama.tokenize(turn.encode(), special=True) == model.tokenizer.encode(turn, parse_special=True)
        assert llama.token_eos() == model.tokenizer.eos_id
    llama.close()
