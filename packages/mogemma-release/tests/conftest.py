from __future__ import annotations

from pathlib import Path

import pytest
from throwaway import make_repository

from mogemma_release.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository")
