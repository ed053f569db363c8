"""Where a model is found: by its path, or by its name in the model folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from checkpoints import GEMMA

from mogemma import ModelNotFoundError, SyncGemmaModel
from mogemma.library import find_model, model_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, empty; the current folder is another."""
    folder = tmp_path / "models"
    elsewhere = tmp_path / "elsewhere"
    for made in (folder, elsewhere):
        made.mkdir()
    monkeypatch.setenv("MOGEMMA_MODELS", str(folder))
    monkeypatch.chdir(elsewhere)
    return folder


def test_the_model_folder_is_that_of_the_environment_or_in_the_users_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model_folder() == folder
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("MOGEMMA_MODELS", "~/models")
    assert model_folder() == Path("/home/somebody/models")
    monkeypatch.setenv("MOGEMMA_MODELS", "")
    assert model_folder() == Path("/home/somebody/.cache/mogemma-models")
    monkeypatch.delenv("MOGEMMA_MODELS")
    assert model_folder() == Path("/home/somebody/.cache/mogemma-models")


def test_a_path_is_taken_as_it_is(folder: Path) -> None:
    for path in (GEMMA, GEMMA / "model.gguf", str(GEMMA), os.path.relpath(GEMMA)):
        assert find_model(path) == Path(path)


def test_a_tilde_is_the_users_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(GEMMA.parent))
    assert find_model("~/gemma3-text") == GEMMA


def test_an_absolute_path_is_never_looked_for_elsewhere(folder: Path) -> None:
    assert find_model("/no/such/model.gguf") == Path("/no/such/model.gguf")
    with pytest.raises(ModelNotFoundError, match=r"/no/such/model\.gguf"):
        SyncGemmaModel("/no/such/model.gguf")


def test_a_file_or_folder_in_the_model_folder_is_found_by_its_name(folder: Path) -> None:
    shutil.copytree(GEMMA, folder / "my-gemma", ignore=shutil.ignore_patterns("*.gguf"))
    shutil.copy(GEMMA / "model.gguf", folder / "other.gguf")
    assert find_model("my-gemma") == folder / "my-gemma"
    assert find_model("other.gguf") == folder / "other.gguf"
    with SyncGemmaModel("my-gemma", threads=1) as model:
        assert model.info.path == str(folder / "my-gemma")


def test_the_beginning_of_a_files_name_is_enough_where_one_fits(folder: Path) -> None:
    for name in ("gemma-3-270m-q4_k_m.gguf", "gemma-3-1b.gguf", "embeddinggemma-300m.Q8_0.gguf", "gemma-3-270m.txt"):
        (folder / name).touch()
    assert find_model("gemma-3-270m") == folder / "gemma-3-270m-q4_k_m.gguf"
    assert find_model("Gemma-3-270M") == folder / "gemma-3-270m-q4_k_m.gguf"
    assert find_model("gemma-3-1b") == folder / "gemma-3-1b.gguf"
    assert find_model("embeddinggemma-300m") == folder / "embeddinggemma-300m.Q8_0.gguf"
    with pytest.raises(ModelNotFoundError):
        find_model("gemma-3-2")


def test_what_lies_in_the_current_folder_comes_first(folder: Path) -> None:
    (folder / "gemma.gguf").touch()
    Path("gemma.gguf").touch()
    assert find_model("gemma.gguf") == Path("gemma.gguf")


def test_a_name_that_fits_several_files_is_answered_with_them(folder: Path) -> None:
    for name in ("gemma-3-270m-q4_0.gguf", "gemma-3-270m-q8_0.gguf"):
        (folder / name).touch()
    with pytest.raises(ModelNotFoundError, match=r"Several.*gemma-3-270m-q4_0\.gguf, gemma-3-270m-q8_0\.gguf"):
        find_model("gemma-3-270m")


@pytest.mark.parametrize(
    "name", ["no-such-model", "google/gemma-3", "*", "[a-", "a?", "~nobody-of-that-name/model", "x" * 200, "🦜"]
)
def test_a_name_that_fits_nothing_is_answered_with_where_was_looked(folder: Path, name: str) -> None:
    (folder / "gemma-3-270m.gguf").touch()
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert f"{name!r}, neither as a path nor in {folder} (MOGEMMA_MODELS)" in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\0b"], ids=["long", "deep", "null"])
def test_a_name_that_no_file_can_have_is_refused(folder: Path, name: str) -> None:
    """Somebody may have given the prompt where the model belongs."""
    with pytest.raises(ModelNotFoundError, match="cannot be"):
        find_model(name)


def test_a_model_folder_that_does_not_exist_holds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path / "none"))
    with pytest.raises(ModelNotFoundError, match="no model 'gemma'"):
        find_model("gemma")
