from __future__ import annotations

import signal
from pathlib import Path

import pytest
from throwaway import commit, make_repository, set_version

from mogemma_release.repository import Repository


@pytest.fixture(scope="session", autouse=True)
def _hears_ctrl_c() -> None:
    """A shell without job control starts what runs in the background deaf to Ctrl-C, and so all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository")


@pytest.fixture
def development(repository: Repository) -> Repository:
    """The same with a development version."""
    set_version(repository.root, "0.1.0.dev0")
    commit(repository.root, "dev")
    return Repository(repository.root)
