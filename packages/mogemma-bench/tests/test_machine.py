from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mogemma_bench.machine import _cpuinfo_name, commit_of, environment

if TYPE_CHECKING:
    pass


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one commit, of one file."""
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where git itself runs the tests
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "kept.py").write_text("1\n")
    for command in (["init"], ["add", "kept.py"], ["commit", "--quiet", "--message=one"]):
        settings = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *settings, "-C", str(folder), *command], check=True)
    return folder


def test_the_environment_is_this_machine() -> None:
    found = environment("x86_64_v3", 1, 0.123)
    assert platform.python_version() in found.python
    assert found.processor
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes > 1 << 28
    assert (found.cpu_level, found.threads, found.load_average) == ("x86_64_v3", 1, 0.12)
    assert abs(datetime.fromisoformat(found.measured_at) - datetime.now(timezone.utc)).total_seconds() < 60


def test_the_processors_name_is_its_makers(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel\t\t: 2\nmodel name\t: Some CPU @ 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n"
    )
    assert _cpuinfo_name(cpuinfo) == "Some CPU @ 3 GHz"
    assert _cpuinfo_name(tmp_path / "missing") == ""


def test_a_clean_clone_has_its_commit_and_a_changed_one_says_dirty(repository: Path) -> None:
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commit_of(repository / "kept.py") == head
    (repository / "kept.py").write_text("2\n")
    assert commit_of(repository / "kept.py") == f"{head}-dirty"


def test_a_file_that_only_lies_inside_somebody_elses_clone_has_no_commit(repository: Path) -> None:
    """mogemma installed into a .venv of another project must not be reported under that project's commit."""
    (repository / "installed.py").touch()
    assert commit_of(repository / "installed.py") is None


def test_without_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert commit_of(repository / "kept.py") is None
