"""A closed checkpoint is unmapped, and using it afterwards is an exception, never a crash."""

from __future__ import annotations

import gc
import shutil
import struct
import weakref
from pathlib import Path

import numpy as np
import pytest

from mogemma.checkpoint import Checkpoint, open_checkpoint
from mogemma.checkpoint.files import MappedFile
from mogemma.errors import ModelClosedError, ModelFormatError

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny" / "gemma3-text" / "model.gguf"


def mapping_is_closed(checkpoint: Checkpoint) -> bool:
    return all(file._mapping.closed for file in checkpoint._mapped)


@pytest.mark.parametrize("path", [MODEL, MODEL.parent])
def test_close_unmaps_the_files_and_may_be_repeated(path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        assert not mapping_is_closed(checkpoint)
    assert mapping_is_closed(checkpoint)
    checkpoint.close()


def test_whatever_is_asked_of_a_closed_checkpoint_is_an_error() -> None:
    with open_checkpoint(MODEL) as checkpoint:
        norm = checkpoint.tensor("output_norm.weight")
        tokens = checkpoint.metadata["tokenizer.ggml.tokens"]
    for ask in (lambda: checkpoint.tensor("output_norm.weight"), tokens.to_list, lambda: tokens[0]):
        with pytest.raises(ModelClosedError, match=r"model\.gguf was closed"):
            ask()
    with pytest.raises(ValueError, match="released"):
        norm.to_float32()


def test_arrays_that_were_taken_out_outlive_the_checkpoint() -> None:
    with open_checkpoint(MODEL) as checkpoint:
        norm = checkpoint.tensor("output_norm.weight").to_float32()
        scores = checkpoint.metadata["tokenizer.ggml.scores"]
        token = checkpoint.metadata["tokenizer.ggml.tokens"][2]
    assert mapping_is_closed(checkpoint)
    assert np.isfinite(norm).all()
    assert len(scores) == 512
    assert not scores.flags.writeable
    assert token == "<bos>"


def test_a_view_still_in_use_keeps_the_file_mapped_and_close_says_so() -> None:
    checkpoint = open_checkpoint(MODEL)
    borrowed = np.frombuffer(checkpoint.tensor("output_norm.weight").data, np.uint8)
    before = borrowed.copy()
    with pytest.warns(ResourceWarning, match=r"model\.gguf stays mapped"):
        checkpoint.close()
    np.testing.assert_array_equal(borrowed, before)


def test_the_mapping_goes_with_the_last_view() -> None:
    checkpoint = open_checkpoint(MODEL)
    (file,) = checkpoint._mapped
    borrowed = checkpoint.tensor("output_norm.weight").data[:4]
    with pytest.warns(ResourceWarning):
        checkpoint.close()
    assert not file.close()
    borrowed.release()
    assert file.close()


def test_a_file_that_is_refused_is_unmapped_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while the exception, whose traceback holds the reader's variables, is being looked at."""
    files: list[MappedFile] = []

    class Recorded(MappedFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            files.append(self)

    monkeypatch.setattr("mogemma.checkpoint.gguf.MappedFile", Recorded)
    monkeypatch.setattr("mogemma.checkpoint.safetensors.MappedFile", Recorded)
    data = MODEL.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-1])
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 9) + b'{"a": {}}')
    (tmp_path / "config.json").write_text("{}")
    for path in ("cut.gguf", "model.safetensors"):
        with pytest.raises(ModelFormatError):
            open_checkpoint(tmp_path / path)
    assert [file._mapping.closed for file in files] == [True, True]


def test_a_model_file_can_be_replaced_while_it_is_open(tmp_path: Path) -> None:
    """By renaming, as downloads do: the mapping keeps the old file."""
    path = Path(shutil.copy(MODEL, tmp_path / "model.gguf"))
    with open_checkpoint(path) as checkpoint:
        before = bytes(checkpoint.tensor("output_norm.weight").data)
        (tmp_path / "new.gguf").write_bytes(b"GGUF, but another")
        (tmp_path / "new.gguf").replace(path)
        assert bytes(checkpoint.tensor("output_norm.weight").data) == before


def test_a_forgotten_checkpoint_unmaps_itself_without_waiting_for_the_garbage_collector() -> None:
    """Weights must not hang in a reference cycle: a second model may need the memory now."""
    checkpoint = open_checkpoint(MODEL)
    mapping = weakref.ref(checkpoint._mapped[0]._mapping)
    gc.disable()
    try:
        del checkpoint
        assert mapping() is None
    finally:
        gc.enable()
