"""A hub on the loopback and a cache of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import GEMMA
from loopback_hub import LoopbackHub, Repository, folder_files, running_hub

GGUF = "tiny-Q8_0.gguf"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache and the model folder, both empty, and a working folder with nothing in it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path / "models"))
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub with a model in one file, and one in a folder."""
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repositories["tiny/gguf"] = Repository(
            {GGUF: (GEMMA / "model.gguf").read_bytes(), "README.md": b"A model.\n"}
        )
        hub.repositories["tiny/folder"] = Repository({**folder_files(GEMMA), "pytorch_model.bin": b"\x80\x02}q\x00."})
        yield hub
