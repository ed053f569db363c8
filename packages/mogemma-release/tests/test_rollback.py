from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from throwaway import commit, git, release, set_version, snapshot, write

from mogemma_release.errors import ReleaseError
from mogemma_release.repository import Repository
from mogemma_release.rollback import roll_back


def test_a_rollback_deprecates_and_prepares_the_successor(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    before = snapshot(repository.root)
    status, text, told = release(repository, "rollback", "0.1.0", "--reason", "It crashes on  empty\nprompts", "--json")
    assert status == 0, told
    data = json.loads(text)
    assert (data["version"], data["successor"], data["follow_up"]) == ("0.1.0", "0.1.1", "0.1.1")
    after = snapshot(repository.root)
    assert set(before) <= set(after), "nothing is deleted"
    assert repository.tags == ("v0.1.0",)
    changelog = (repository.root / "CHANGELOG.md").read_text()
    assert (
        "## 0.1.0 (2026-11-26)\n\n> **Deprecated:** It crashes on empty prompts. Use 0.1.1 or newer.\n\n- It runs.\n"
        in changelog
    )
    fragment = repository.root / "changes" / "+deprecates-0.1.0.bugfix.md"
    assert fragment.read_text() == "0.1.0 is deprecated: It crashes on empty prompts. Use 0.1.1 or newer.\n"
    assert Repository(repository.root).version == "0.1.1.dev0"
    assert "> **Deprecated:**" in Path(data["notes"]).read_text()
    assert data["github"].startswith("gh release edit v0.1.0 --notes-file build/")


def test_a_rollback_keeps_a_version_that_has_begun(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    set_version(repository.root, "0.2.0.dev0")
    commit(repository.root, "next")
    done = roll_back(Repository(repository.root), "0.1.0", "It is slow!")
    assert done.successor == "0.2.0"
    assert Repository(repository.root).version == "0.2.0.dev0"
    assert "is slow! Use 0.2.0 or newer." in done.notes


def test_versions_are_bumped_one_after_another(development: Repository) -> None:
    """From a dry run that is tried again to a release, the version after it, and the way back."""
    root = development.root
    for line in ("round 0.1.0.dev1", "stage 0.1.0", "patch 0.1.1.dev0", "minor 0.2.0.dev0", "stage 0.2.0"):
        part, version = line.split()
        subprocess.run([sys.executable, "-m", "bumpversion", "bump", part], cwd=root, check=True, capture_output=True)
        assert Repository(root).version == version
        commit(root, version)
    git(root, "tag", "v0.1.0")
    git(root, "tag", "v0.2.0")
    roll_back(Repository(root), "0.1.0", "bad")
    assert Repository(root).version == "0.2.1.dev0"


def add_release(repository: Repository, version: str, following: str | None = None) -> Repository:
    """Another release after 0.1.0, with its tag, and the development version that was begun after it."""
    root = repository.root
    set_version(root, version)
    changelog = (root / "CHANGELOG.md").read_text()
    write(root / "CHANGELOG.md", changelog.replace("## 0.1.0", f"## {version} (2026-11-27)\n\n- More.\n\n## 0.1.0"))
    commit(root, version)
    git(root, "tag", f"v{version}")
    if following:
        set_version(root, following)
        commit(root, following)
    return Repository(root)


@pytest.mark.parametrize(
    ("following", "follow_up"),
    [(None, "0.2.1"), ("0.2.1.dev0", "0.2.1"), ("0.3.0.dev2", "0.3.0"), ("0.1.0", "0.2.1")],
    ids=["at the release", "begun", "begun with more", "at an old version"],
)
def test_a_newer_release_is_the_way_out_and_the_follow_up_is_prepared(
    repository: Repository, following: str | None, follow_up: str
) -> None:
    git(repository.root, "tag", "v0.1.0")
    done = roll_back(add_release(repository, "0.2.0", following), "0.1.0", "It is slow.")
    assert (done.successor, done.follow_up) == ("0.2.0", follow_up)
    version = Repository(repository.root).version
    assert version == (following if following and "dev" in following else f"{follow_up}.dev0")
    assert "> **Deprecated:** It is slow. Use 0.2.0 or newer." in done.notes
    fragment = repository.root / "changes" / "+deprecates-0.1.0.bugfix.md"
    assert fragment.read_text() == "0.1.0 is deprecated: It is slow. Use 0.2.0 or newer.\n"


def test_a_deprecated_release_is_no_way_out(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    roll_back(add_release(repository, "0.2.0"), "0.2.0", "Slow too.")
    commit(repository.root, "0.2.0 is deprecated")
    done = roll_back(Repository(repository.root), "0.1.0", "It is slow.")
    assert (done.successor, done.follow_up) == ("0.2.1", "0.2.1")
    assert Repository(repository.root).version == "0.2.1.dev0"


def test_a_rollback_that_fails_half_way_leaves_the_tree_as_it_was(repository: Repository) -> None:
    """The hook of the real repository is `uv lock`, which fails without a network: after the versions were written."""
    settings = repository.root / "pyproject.toml"
    hook = 'pre_commit_hooks = ["sh hook.sh"]\n'
    write(settings, settings.read_text().replace("commit = false\n", f"commit = false\n{hook}"))
    write(repository.root / "hook.sh", "echo half > uv.lock; exit 2\n")
    write(repository.root / "uv.lock", "whole\n")
    commit(repository.root, "a hook")
    git(repository.root, "tag", "v0.1.0")
    before = snapshot(repository.root)
    with pytest.raises(ReleaseError, match=r"^bump-my-version: 'sh hook\.sh' exited with 2\. The tree is as it was\.$"):
        roll_back(Repository(repository.root), "0.1.0", "bad")
    assert snapshot(repository.root) == before
    assert Repository(repository.root).changes == ()


def test_a_full_disk_leaves_the_tree_as_it_was(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_all_but_the_fragment(file: Path, text: str) -> None:
        if file.parent.name == "changes":
            raise ReleaseError("the disk is full.")
        file.write_text(text, encoding="utf-8")

    git(repository.root, "tag", "v0.1.0")
    before = snapshot(repository.root)
    monkeypatch.setattr("mogemma_release.rollback.write_whole", write_all_but_the_fragment)
    with pytest.raises(ReleaseError, match="the disk is full"):
        roll_back(repository, "0.1.0", "bad")
    assert snapshot(repository.root) == before


def test_a_rollback_never_deletes(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    before = snapshot(repository.root)
    status, _, told = release(repository, "rollback", "0.1.0", "--reason", "bad", "--delete")
    assert (status, "is not deleted" in told) == (1, True)
    assert snapshot(repository.root) == before


@pytest.mark.parametrize(
    ("version", "reason", "sentence"),
    [
        ("0.3.0", "bad", r"There is no tag v0\.3\.0"),
        ("latest", "bad", "is no version"),
        ("0.1.0", " ", "for a reason"),
    ],
)
def test_a_rollback_of_nothing_changes_nothing(
    repository: Repository, version: str, reason: str, sentence: str
) -> None:
    git(repository.root, "tag", "v0.1.0")
    before = snapshot(repository.root)
    with pytest.raises(ReleaseError, match=sentence):
        roll_back(repository, version, reason)
    assert snapshot(repository.root) == before


def test_a_release_is_deprecated_once(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    roll_back(repository, "0.1.0", "bad")
    commit(repository.root, "deprecated")
    before = snapshot(repository.root)
    with pytest.raises(ReleaseError, match="says already"):
        roll_back(Repository(repository.root), "0.1.0", "worse")
    assert snapshot(repository.root) == before


def test_a_version_without_a_section_is_left_alone(repository: Repository) -> None:
    git(repository.root, "tag", "v0.0.5")
    with pytest.raises(ReleaseError, match=r"has no section for 0\.0\.5"):
        roll_back(repository, "0.0.5", "bad")
    assert repository.changes == ()
