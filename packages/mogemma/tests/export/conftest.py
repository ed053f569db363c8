"""Models that are written as GGUF files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wide import write_wide

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def gemma_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 3 whose rows are blocks of every format."""
    return write_wide(tmp_path_factory.mktemp("wide") / "gemma")


@pytest.fixture(scope="session")
def embedder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EmbeddingGemma like that."""
    return write_wide(tmp_path_factory.mktemp("wide") / "embeddinggemma", embeds=True)
