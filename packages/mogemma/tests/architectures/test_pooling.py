"""The dense heads of embedding models: found in the order of modules.json, refused where vectors would be wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder, copy_gguf

from mogemma.architectures import read_architecture
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path


def heads_of(path: Path) -> list[tuple[int, int]]:
    """Rows and columns of each dense head."""
    with open_checkpoint(path) as checkpoint:
        dense = read_architecture(checkpoint).struct["dense"] or []
        return [(matrix["n_rows"], matrix["n_columns"]) for matrix in dense]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_folder(EMBEDDING_GEMMA, tmp_path / "model")


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def change(path: Path, **changes: Any) -> None:
    write(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def test_folder_and_gguf_have_the_same_heads() -> None:
    heads = heads_of(EMBEDDING_GEMMA)
    assert heads == heads_of(EMBEDDING_GEMMA / "model.gguf")
    assert heads[0][1] == heads[1][0] == 36
    assert heads[0][0] == heads[1][1]


def test_a_model_that_generates_has_none() -> None:
    assert heads_of(GEMMA) == []


def test_the_order_is_that_of_modules_json(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    dense = [module for module in modules if module["type"].endswith("Dense")]
    write(folder / "modules.json", [*dense[::-1]])
    with pytest.raises(ModelFormatError, match="dense head"):
        heads_of(folder)  # the second takes what the first would have given


@pytest.mark.parametrize("missing", ["modules.json", "2_Dense"])
def test_a_folder_without_its_heads_is_refused(tmp_path: Path, missing: str) -> None:
    folder = copy_folder(EMBEDDING_GEMMA, tmp_path / "model", leave_out=[missing])
    with pytest.raises((UnsupportedModelError, ModelNotFoundError), match=r"dense heads|2_Dense"):
        heads_of(folder)


def test_a_gguf_file_without_its_heads_is_refused_and_says_what_to_use(tmp_path: Path) -> None:
    file = copy_gguf(
        EMBEDDING_GEMMA / "model.gguf", tmp_path / "model.gguf", leave_out=["dense_2.weight", "dense_3.weight"]
    )
    with pytest.raises(UnsupportedModelError, match=r"has no dense heads.*original folder"):
        heads_of(file)


def test_a_gguf_file_with_one_of_two_heads_is_damaged(tmp_path: Path) -> None:
    file = copy_gguf(EMBEDDING_GEMMA / "model.gguf", tmp_path / "model.gguf", leave_out=["dense_3.weight"])
    with pytest.raises(ModelFormatError, match=r"dense_3\.weight"):
        heads_of(file)


def test_another_pooling_is_unsupported(folder: Path, tmp_path: Path) -> None:
    change(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    with pytest.raises(UnsupportedModelError, match="pools by cls_token"):
        heads_of(folder)
    file = copy_gguf(EMBEDDING_GEMMA / "model.gguf", tmp_path / "m.gguf", {"gemma-embedding.pooling_type": 2})
    with pytest.raises(UnsupportedModelError, match="pooling type 2"):
        heads_of(file)


@pytest.mark.parametrize("changes", [{"bias": True}, {"activation_function": "torch.nn.modules.activation.Tanh"}])
def test_a_head_with_a_bias_or_an_activation_is_unsupported(folder: Path, changes: dict[str, Any]) -> None:
    change(folder / "2_Dense" / "config.json", **changes)
    with pytest.raises(UnsupportedModelError, match="bias or the activation"):
        heads_of(folder)


def test_an_unknown_module_is_unsupported_by_name(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    write(folder / "modules.json", [*modules, {"type": "sentence_transformers.models.LayerNorm", "path": "5_LN"}])
    with pytest.raises(UnsupportedModelError, match="LayerNorm"):
        heads_of(folder)


@pytest.mark.parametrize("content", [3, {}, ["Dense"], None])
def test_modules_that_are_no_list_are_damaged(folder: Path, content: object) -> None:
    write(folder / "modules.json", content)
    with pytest.raises((ModelFormatError, UnsupportedModelError), match=r"modules\.json|dense heads"):
        heads_of(folder)


@pytest.mark.parametrize("shape", [(36,), (8, 37), (2, 2, 36)])
def test_a_head_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = copy_gguf(
        EMBEDDING_GEMMA / "model.gguf", tmp_path / "m.gguf", tensors={"dense_2.weight": np.zeros(shape, np.float32)}
    )
    with pytest.raises(ModelFormatError, match="dense_2"):
        heads_of(file)
