from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from throwaway import ROOT, commit, git, write

from mogemma_release.repository import Repository
from mogemma_release.runbook import RECORDS


def at(root: Path, second: int, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Commit changes of files at a time."""
    for name in names:
        write(root / name, f"{second}\n")
    monkeypatch.setenv("GIT_COMMITTER_DATE", f"{second} +0000")
    commit(root, f"at {second}")


def test_what_evidence_records_changes_no_artifact(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are committed after the artifacts were looked at; what is published then must be the same bytes."""
    root = repository.root
    at(root, 1_800_000_000, monkeypatch, "new.py")
    assert repository.source_date_epoch == 1_800_000_000
    at(root, 1_800_000_100, monkeypatch, *RECORDS)
    assert repository.source_date_epoch == 1_800_000_000
    at(root, 1_800_000_200, monkeypatch, "newer.py", RECORDS[0])
    assert repository.source_date_epoch == 1_800_000_200


def test_a_merge_of_the_records_changes_no_artifact_either(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository.root
    at(root, 1_800_000_000, monkeypatch, "new.py")
    git(root, "checkout", "--quiet", "-b", "evidence")
    at(root, 1_800_000_100, monkeypatch, *RECORDS)
    git(root, "checkout", "--quiet", "main")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1800000200 +0000")
    git(root, "merge", "--quiet", "--no-ff", "--message", "merge", "evidence")
    assert repository.source_date_epoch == 1_800_000_000


def test_make_says_the_same_time(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot ask Python: it runs where nothing is installed yet."""
    root = repository.root
    shutil.copyfile(ROOT / "Makefile", root / "Makefile")
    at(root, 1_800_000_000, monkeypatch, "new.py")
    at(root, 1_800_000_100, monkeypatch, *RECORDS)
    told = subprocess.run(
        ["make", "--silent", "--no-print-directory", "epoch"], cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{repository.source_date_epoch}\n" == "1800000000\n"
