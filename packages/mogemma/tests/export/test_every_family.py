"""A GGUF file of floats of any family becomes one that is the same model quantised on load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from checkpoints import QUANT_ZOO, TINY, copy_gguf

from mogemma import EmbeddingModel, SyncGemmaModel
from mogemma.checkpoint import open_checkpoint
from mogemma.export import write_gguf
from mogemma.weight_types import WEIGHT_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from blocks import Floats

IDS = [2, 7, 11, 3, 5, 130, 17, 499]
ON_LOAD = ("q8_0", "q6_k", "q4_k", "q4_0", "bf16")
TABLES = ("token_embd.weight", "per_layer_token_embd.weight")
SOURCES = sorted(path for path in TINY.glob("*/model.gguf") if path.parent != QUANT_ZOO)

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.parent.name)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def write(source: Path, target: Path, kind: str) -> None:
    with open_checkpoint(source) as checkpoint:
        write_gguf(checkpoint, target, kind, threads=2)


def results(path: Path, **options: Any) -> Floats:
    """The logits of every token, or the vector of an embedding model.

    The cache's default format hangs on whether a file is quantised as a whole, and rows of 40 never are.
    """
    if "gemma-embedding.block_count" in gguf.GGUFReader(path).fields:
        with EmbeddingModel(path, **options) as model:
            return model.embed([IDS])
    with SyncGemmaModel(path, cache="f16", **options) as model:
        return model.logits(IDS)


def with_tables_of(source: Path, written: Path, target: Path) -> Path:
    """The source with the tables of embeddings that a file has, as float32."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(written).tensors if tensor.name in TABLES}
    floats = {name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for name, tensor in tensors.items()}
    return copy_gguf(source, target, tensors=floats)


def test_there_is_a_file_of_every_family_that_has_tensors_of_its_own() -> None:
    assert {"embeddinggemma", "gemma3n-text", "gemma4-e2b", "gemma4-moe"} <= {path.parent.name for path in SOURCES}


@every_source
@pytest.mark.parametrize("kind", ON_LOAD)
def test_a_file_is_the_model_quantised_on_load_but_for_its_tables(
    source: Path, target: Path, tmp_path: Path, kind: str
) -> None:
    """To the bit. The tables of embeddings are quantised in the file only; on load they stay as they are stored."""
    write(source, target, kind)
    as_stored = with_tables_of(source, target, tmp_path / "floats.gguf")
    assert np.array_equal(results(target), results(as_stored, quantize=kind))


@every_source
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_a_file_of_floats_is_the_model(source: Path, target: Path, kind: str) -> None:
    """All but exactly: numbers below 6e-5 lose bits in float16."""
    write(source, target, kind)
    ours, theirs = results(target), results(source)
    assert np.array_equal(ours, theirs) or kind == "f16"
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("gemma3n-text", ["altup_router", "altup_predict_coef", "altup_correct_coef"]),
        ("gemma4-moe", ["ffn_gate_inp"]),
    ],
)
def test_what_decides_where_a_token_goes_stays_as_it_is_stored(
    family: str, names: list[str], target: Path, kind: str
) -> None:
    source = TINY / family / "model.gguf"
    write(source, target, kind)
    before, after = ({tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (source, target))
    for name in (f"blk.{layer}.{name}.weight" for layer in (0, 1) for name in names):
        assert after[name].tensor_type == before[name].tensor_type
        assert np.array_equal(after[name].data, before[name].data)
