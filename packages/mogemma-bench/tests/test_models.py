from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mogemma_bench import parts
from mogemma_bench.errors import BenchError
from mogemma_bench.models import embedding_model, generation_model, model_files

GEMMA = parts.GEMMA_3_270M.name
CONTENT = b"the model"

Tell = Callable[[str], None]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for models; nothing is found elsewhere, whatever this machine has."""
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(parts, "installed", lambda _: None)
    return tmp_path / "models"


@pytest.fixture
def hub_snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "hub/hub/models--google--embeddinggemma-300m"
    snapshot = folder / "snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    return snapshot


def put(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENT)
    return file


def test_the_model_asked_for_is_taken_whatever_else_there_is(tmp_path: Path, cache: Path, tell: Tell) -> None:
    asked = put(tmp_path / "asked.gguf")
    put(cache / GEMMA)
    put(cache / "embeddinggemma-300m/model.safetensors")
    assert generation_model(asked, tell) == embedding_model(asked, tell) == asked


def test_gemma_is_found_in_the_cache(cache: Path, tell: Tell) -> None:
    expected = put(cache / GEMMA)
    assert generation_model(None, tell) == expected


def test_the_cache_is_in_the_home_folder_unless_a_variable_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    monkeypatch.delenv("MOGEMMA_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = put(tmp_path / ".cache/mogemma-models" / GEMMA)
    assert generation_model(None, tell) == expected


def test_gemma_is_joined_from_installed_packages_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell, told: list[str]
) -> None:
    pieces = [put(tmp_path / name) for name in ("one", "two")]
    whole = parts.Parts(GEMMA, ("one", "two"), ("one", "two"), 2 * len(CONTENT), sha256(2 * CONTENT))
    monkeypatch.setattr(parts, "GEMMA_3_270M", whole)
    monkeypatch.setattr(parts, "installed", lambda _: pieces)
    assert generation_model(None, tell) == cache / GEMMA
    assert (cache / GEMMA).read_bytes() == 2 * CONTENT
    assert generation_model(None, tell) == cache / GEMMA
    assert told == [f"joining {GEMMA} in {cache}"]


def test_without_any_model_the_error_says_how_to_get_one(cache: Path, tell: Tell) -> None:
    with pytest.raises(BenchError, match=r"--extra models.*mogemma-bench\[models\].*fetch_models.py.*--model") as error:
        generation_model(None, tell)
    assert str(cache / GEMMA) in str(error.value)


def test_embedding_takes_embeddinggemma_from_the_cache_first(cache: Path, hub_snapshot: Path, tell: Tell) -> None:
    expected = put(cache / "embeddinggemma-300m/model.safetensors").parent
    assert embedding_model(None, tell) == expected
    assert hub_snapshot.exists()


def test_embedding_takes_embeddinggemma_as_the_hub_left_it(cache: Path, hub_snapshot: Path, tell: Tell) -> None:
    put(cache / GEMMA)
    assert embedding_model(None, tell) == hub_snapshot


def test_a_hub_download_that_never_ended_is_passed_over(cache: Path, hub_snapshot: Path, tell: Tell) -> None:
    (hub_snapshot / "model.safetensors").unlink()
    expected = put(cache / GEMMA)
    assert embedding_model(None, tell) == expected


def test_embedding_falls_back_to_gemma_and_says_so(cache: Path, tell: Tell, told: list[str]) -> None:
    expected = put(cache / GEMMA)
    assert embedding_model(None, tell) == expected
    assert "mean of its hidden states" in told[0]


def test_a_file_is_identified_by_its_own_checksum(tmp_path: Path) -> None:
    found = model_files(put(tmp_path / "m.gguf"))
    assert (found.name, found.sha256, found.bytes) == ("m.gguf", sha256(CONTENT), len(CONTENT))
    assert found.files == {"m.gguf": sha256(CONTENT)}


def test_a_folder_is_identified_by_all_its_weights(tmp_path: Path) -> None:
    for name in ("b.safetensors", "2_Dense/a.safetensors", "README.md"):
        put(tmp_path / "folder" / name)
    found = model_files(tmp_path / "folder")
    assert found.files == {"2_Dense/a.safetensors": sha256(CONTENT), "b.safetensors": sha256(CONTENT)}
    listing = f"{sha256(CONTENT)}  2_Dense/a.safetensors\n{sha256(CONTENT)}  b.safetensors\n"
    assert (found.sha256, found.bytes) == (sha256(listing.encode()), 2 * len(CONTENT))


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"holds no \.safetensors and no \.gguf"):
        model_files(tmp_path)
