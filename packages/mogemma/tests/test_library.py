"""The model folder: where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mogemma.library import model_folder


def test_the_model_folder_is_that_of_the_environment_or_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    assert model_folder() == tmp_path
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("MOGEMMA_MODELS", "~/models")
    assert model_folder() == Path("/home/somebody/models")
    monkeypatch.setenv("MOGEMMA_MODELS", "")
    assert model_folder() == Path("/home/somebody/.cache/mogemma-models")
    monkeypatch.delenv("MOGEMMA_MODELS")
    assert model_folder() == Path("/home/somebody/.cache/mogemma-models")
