"""Artifacts that are really built, by the files of this repository, but with a small kernel in place of the real one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_kernel import write_kernel
from throwaway import commit, git

from mogemma_release.artifacts.build import build_artifacts
from mogemma_release.matrix import PLATFORMS
from mogemma_release.repository import Repository

ROOT = Path(__file__).resolve().parents[4]


def copy_of_this_repository(root: Path) -> Repository:
    """What git knows or would take here, without tests, as one commit of another repository."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")[:-1]
    for path in listed:
        if "tests" not in Path(path).parts and (ROOT / path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, root / path, follow_symlinks=False)
    git(root.parent, "init", "--quiet", str(root))
    git(root, "config", "user.name", "Ada")
    git(root, "config", "user.email", "ada@example.org")
    commit(root, "first")
    return Repository(root)


@pytest.fixture(scope="session")
def offline() -> Iterator[None]:
    """What a build needs, `uv sync` has left in uv's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, offline: None) -> Repository:
    root = tmp_path_factory.mktemp("small") / "mogemma"
    repository = copy_of_this_repository(root)
    shutil.rmtree(root / "mojo")
    write_kernel(root)
    commit(root, "a small kernel")
    # Lies about, and belongs nowhere.
    (root / "packages/mogemma/src/mogemma/left_over.py").touch()
    (root / "packages/mogemma/weights.gguf").touch()
    return repository


@pytest.fixture(scope="session")
def finished(small: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all artifacts of the small repository, which nobody may change."""
    out = tmp_path_factory.mktemp("finished") / "dist"
    build_artifacts(small, out, PLATFORMS)
    return out


@pytest.fixture
def dist(finished: Path, tmp_path: Path) -> Path:
    """A copy of the artifacts, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "dist"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, offline: None) -> Repository:
    """With the real kernel."""
    return copy_of_this_repository(tmp_path_factory.mktemp("whole") / "mogemma")
