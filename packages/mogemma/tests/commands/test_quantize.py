"""`mogemma quantize` writes a whole file or none, and says in a sentence why it does not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, QUANT_ZOO
from commandline import document, run

from mogemma import EmbeddingModel, SyncGemmaModel
from mogemma.commands.quantize import TYPES
from mogemma.export import write
from mogemma.export.metadata import FILE_TYPES
from mogemma.weight_types import WEIGHT_TYPES

IDS = [2, 7, 11, 3]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_the_file_is_the_model(target: Path) -> None:
    result = run("quantize", str(GEMMA), str(target), "--type", "bf16")
    assert (result.exit_code, files(target.parent)) == (0, ["model.gguf"])
    assert "50 BF16, 43 F32" in result.stdout
    assert "of weights in" in result.stderr
    with SyncGemmaModel(GEMMA) as source, SyncGemmaModel(target) as file:
        assert (source.logits(IDS) == file.logits(IDS)).all()


def test_json_says_what_was_written(target: Path) -> None:
    found = document(run("quantize", str(EMBEDDING_GEMMA), str(target), "--type", "q8_0", "--threads", "1", "--json"))
    assert found.pop("seconds") > 0
    assert found.pop("read_bytes") > 0
    assert (
        found
        == {
            "path": str(target),
            "family": "embeddinggemma",
            "formats": {"BF16": 38, "F32": 37, "Q8_0": 6},
            "n_tensors": 81,
            "written_bytes": target.stat().st_size,
        }
        or found["n_tensors"] == 82
    )
    with EmbeddingModel(target) as model:
        assert model.embed(["fish"]).shape[0] == 1


def test_a_file_that_is_there_is_overwritten_only_by_force(target: Path) -> None:
    target.write_bytes(b"precious")
    result = run("quantize", str(GEMMA), str(target), "--type", "bf16")
    assert (result.exit_code, target.read_bytes()) == (2, b"precious")
    assert "is there already" in result.stderr
    assert "--force" in result.stderr
    assert run("quantize", str(GEMMA), str(target), "--type", "bf16", "--force").exit_code == 0
    assert target.read_bytes()[:4] == b"GGUF"


def test_a_file_can_be_quantised_onto_itself(target: Path) -> None:
    """It stays mapped until the new one has its name."""
    assert run("quantize", str(GEMMA), str(target), "--type", "f32").exit_code == 0
    before = target.stat().st_size
    assert run("quantize", str(target), str(target), "--type", "bf16", "--force").exit_code == 0
    assert target.stat().st_size < before
    with SyncGemmaModel(GEMMA) as source, SyncGemmaModel(target) as file:
        assert (source.logits(IDS) == file.logits(IDS)).all()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [(QUANT_ZOO / "model.gguf", "is quantised already"), (Path("/no/such/model"), "no file or folder")],
    ids=["quantised", "missing"],
)
def test_a_source_that_cannot_be_used_leaves_nothing(source: Path, sentence: str, target: Path) -> None:
    result = run("quantize", str(source), str(target), "--type", "q8_0")
    assert (result.exit_code, files(target.parent)) == (1, [])
    assert sentence in result.stderr


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    result = run("quantize", str(GEMMA), str(tmp_path), "--type", "q8_0", "--force")
    assert (result.exit_code, files(tmp_path)) == (2, [])
    assert "is a folder" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk_is_an_error_and_not_half_a_file(tmp_path: Path) -> None:
    (tmp_path / "full.gguf").symlink_to("/dev/full")
    result = run("quantize", str(GEMMA), str(tmp_path / "full.gguf"), "--type", "q8_0")
    assert (result.exit_code, files(tmp_path)) == (1, ["full.gguf"])
    assert "No space left on device" in result.stderr


def test_a_disk_that_is_too_small_is_found_before_the_work(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    result = run("quantize", str(GEMMA), str(target), "--type", "q8_0")
    assert (result.exit_code, files(target.parent)) == (1, [])
    assert f"{target}: No space left on device: it would have" in result.stderr


def test_ctrl_c_leaves_what_was_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it comes while the third tensor is encoded."""
    target.write_bytes(b"precious")
    seen: list[str] = []
    pieces = write._Blocks._pieces

    def interrupted(blocks: write._Blocks) -> object:
        seen.append(blocks.tensor.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return pieces(blocks)

    monkeypatch.setattr(write._Blocks, "_pieces", interrupted)
    result = run("quantize", str(GEMMA), str(target), "--type", "q8_0", "--force")
    assert (result.exit_code, target.read_bytes()) == (130, b"precious")
    assert files(target.parent) == ["model.gguf"]
    assert len(seen) == 3


def test_without_the_package_that_writes_the_sentence_says_how_to_get_it(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    result = run("quantize", str(GEMMA), str(target), "--type", "q8_0")
    assert (result.exit_code, files(target.parent)) == (2, [])
    assert "pip install 'mogemma[quantize]'" in result.stderr


@pytest.mark.parametrize("threads", ["0", "-1", "257"])
def test_threads_are_checked(threads: str, target: Path) -> None:
    result = run("quantize", str(GEMMA), str(target), "--type", "q8_0", "--threads", threads)
    assert (result.exit_code, files(target.parent)) == (2, [])
    assert "--threads is" in result.stderr


def test_every_type_of_the_option_is_one_that_can_be_written() -> None:
    assert set(TYPES) == set(WEIGHT_TYPES) == set(FILE_TYPES)
