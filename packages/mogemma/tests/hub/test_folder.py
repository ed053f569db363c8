"""What is found in the model folder, by which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mogemma import ModelNotFoundError
from mogemma.hub.folder import find_in_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, empty."""
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    return tmp_path


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


@pytest.mark.parametrize(
    ("name", "other", "own"),
    [
        ("gemma-3-270m", "gemma-3-270m-it-Q8_0.gguf", "gemma-3-270m-Q8_0.gguf"),
        ("embeddinggemma-300m", "embeddinggemma-300m-qat-Q4_0.gguf", "embeddinggemma-300m.gguf"),
        ("gemma-3-4b-it", "gemma-3-4b-it-mmproj-f16.gguf", "gemma-3-4b-it.UD-Q4_K_XL.gguf"),
        ("gemma-3n-e2b-it", "gemma-3n-E2B-it-mine.gguf", "gemma-3n-E2B-it-Q8_0.gguf"),
    ],
)
def test_a_known_name_means_that_model_and_no_other_whose_name_begins_so(
    folder: Path, name: str, other: str, own: str
) -> None:
    """Neither where the other is alone, nor where the two lie side by side."""
    (folder / other).touch()
    assert find_in_folder(name) is None
    (folder / own).touch()
    assert find_in_folder(name) == folder / own
    assert find_in_folder(other.removesuffix(".gguf")) == folder / other


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
