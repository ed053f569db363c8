"""The model folder: where it is, and what is found in it by which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mogemma import ModelNotFoundError
from mogemma.library import find_in_folder, model_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, empty."""
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    return tmp_path


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


def test_a_file_or_folder_is_found_by_its_name(folder: Path) -> None:
    (folder / "my-gemma").mkdir()
    (folder / "other.gguf").touch()
    assert find_in_folder("my-gemma") == folder / "my-gemma"
    assert find_in_folder("other.gguf") == folder / "other.gguf"


def test_the_beginning_of_a_files_name_is_enough_where_one_fits(folder: Path) -> None:
    for name in ("gemma-3-270m-q4_k_m.gguf", "gemma-3-1b.gguf", "embeddinggemma-300m.Q8_0.gguf", "gemma-3-270m.txt"):
        (folder / name).touch()
    assert find_in_folder("gemma-3-270m") == folder / "gemma-3-270m-q4_k_m.gguf"
    assert find_in_folder("Gemma-3-270M") == folder / "gemma-3-270m-q4_k_m.gguf"
    assert find_in_folder("gemma-3-1b") == folder / "gemma-3-1b.gguf"
    assert find_in_folder("embeddinggemma-300m") == folder / "embeddinggemma-300m.Q8_0.gguf"
    assert find_in_folder("gemma-3-2") is None


def test_a_name_that_fits_several_files_is_answered_with_them(folder: Path) -> None:
    for name in ("gemma-3-270m-q4_0.gguf", "gemma-3-270m-q8_0.gguf"):
        (folder / name).touch()
    with pytest.raises(ModelNotFoundError, match=r"Several.*gemma-3-270m-q4_0\.gguf, gemma-3-270m-q8_0\.gguf"):
        find_in_folder("gemma-3-270m")


@pytest.mark.parametrize(
    "name", ["no-such-model", "a/b", "*", "[a-", "a?", "~nobody-of-that-name", "x" * 200, "🦜", "."]
)
def test_a_name_that_fits_nothing_finds_nothing(folder: Path, name: str) -> None:
    (folder / "gemma-3-270m.gguf").touch()
    assert find_in_folder(name) is None


def test_a_model_folder_that_does_not_exist_holds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path / "none"))
    assert find_in_folder("gemma") is None
