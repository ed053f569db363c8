from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from throwaway import commit, make_repository, set_version

from mogemma_release.repository import Repository


@pytest.fixture(scope="session", autouse=True)
def _hears_signals() -> Iterator[None]:
    """What a script starts in the background is deaf to Ctrl-C, what nohup starts to a closed terminal, and so is all that
    these start.
    """
    deaf = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in deaf:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in deaf:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository")


@pytest.fixture
def development(repository: Repository) -> Repository:
    """The same with a development version."""
    set_version(repository.root, "0.1.0.dev0")
    commit(repository.root, "dev")
    return Repository(repository.root)
