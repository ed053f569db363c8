from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from throwaway import commit, git, make_step, set_version, snapshot, write

from mogemma_release.cli import main
from mogemma_release.commands import dry_run
from mogemma_release.decision import Proof
from mogemma_release.errors import NeedsOutsideError, ReleaseError
from mogemma_release.evidence import Bundle
from mogemma_release.publishing import check_dry_run, make_dry_run, push, roll_back
from mogemma_release.repository import Repository


@pytest.fixture
def all_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma_release.publishing.decide", lambda case: [Proof("item", "claim", True, "proof")])


@pytest.fixture
def remote(repository: Repository, tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    git(repository.root, "init", "--quiet", "--bare", str(folder))
    git(repository.root, "remote", "add", "origin", str(folder))
    return folder


@pytest.fixture
def development(repository: Repository) -> Repository:
    set_version(repository.root, "0.1.0.dev0")
    commit(repository.root, "dev")
    return Repository(repository.root)


def release(repository: Repository, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [*arguments, "--root", str(repository.root)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.usefixtures("all_go")
def test_the_tag_is_annotated_and_names_the_evidence(repository: Repository) -> None:
    bundle = Bundle.begin(repository)
    status, text, _ = release(repository, "tag")
    assert (status, "v0.1.0 is tagged here" in text) == (0, True)
    assert git(repository.root, "cat-file", "-t", "v0.1.0").strip() == "tag"
    assert f"evidence sha256:{bundle.digest}" in git(repository.root, "tag", "-n9", "v0.1.0")
    assert git(repository.root, "rev-parse", "v0.1.0^{commit}").strip() == repository.commit


def test_a_no_go_makes_no_tag(repository: Repository) -> None:
    status, _, told = release(repository, "tag")
    assert status == 1
    assert told.startswith("error: No-go, so there is no tag. evidence: There is no evidence in")
    assert repository.tags == ()


@pytest.mark.usefixtures("all_go")
def test_an_existing_tag_is_refused(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    status, _, told = release(repository, "tag")
    assert (status, told.startswith("error: The tag v0.1.0 exists.")) == (1, True)


def test_a_dirty_tree_makes_no_tag(repository: Repository) -> None:
    write(repository.root / "stray", "")
    status, _, told = release(repository, "tag")
    assert status == 1
    assert "clean-tree: The tree has changes: stray" in told


@pytest.mark.usefixtures("all_go")
def test_pushing_without_a_remote_says_so_and_keeps_the_tag(repository: Repository) -> None:
    Bundle.begin(repository)
    status, text, _ = release(repository, "tag", "--push", "--json")
    told = json.loads(text)
    assert (status, told["ok"], told["needs_outside"]) == (1, False, True)
    assert "There is no remote origin. v0.1.0 stay here" in told["error"]
    assert repository.tags == ("v0.1.0",)


@pytest.mark.usefixtures("all_go")
def test_a_tag_that_could_not_be_pushed_is_pushed_later(repository: Repository, remote: Path) -> None:
    Bundle.begin(repository)
    assert release(repository, "tag")[0] == 0
    assert release(repository, "tag", "--push")[0] == 0
    assert git(remote, "tag").split() == ["v0.1.0"]


def test_a_remote_that_is_gone_is_a_sentence(repository: Repository, tmp_path: Path) -> None:
    git(repository.root, "remote", "add", "origin", str(tmp_path / "gone.git"))
    with pytest.raises(NeedsOutsideError, match="stay here; push with `git push --atomic origin v1`"):
        push(repository, ["v1"])


def test_a_dry_run_tags_a_scratch_branch(
    development: Repository, monkeypatch: pytest.MonkeyPatch, remote: Path
) -> None:
    steps = tuple(make_step(name, f"echo {name} > build/{name}") for name in ("wheels", "inspect", "smoke"))
    monkeypatch.setattr(dry_run, "EVIDENCE", steps)
    status, text, _ = release(development, "dry-run", "--json")
    assert status == 0, text
    told = json.loads(text)
    assert (told["branch"], told["tag"], told["pushed"]) == ("dry-run/v0.1.0.dev0", "v0.1.0.dev0", False)
    assert all((development.root / "build" / step.name).exists() for step in steps)
    assert git(development.root, "branch", "--show-current").strip() == "main", "the branch at work stays"
    assert release(development, "dry-run", "--push")[0] == 0
    assert git(remote, "tag").split() == ["v0.1.0.dev0"]


def test_a_dry_run_that_fails_tags_nothing(development: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "EVIDENCE", (make_step("inspect", "echo wrong tag; exit 1"),))
    status, _, told = release(development, "dry-run")
    assert status == 1
    assert "inspect failed with status 1" in told
    assert (development.root / "build" / "dry-run" / "inspect.log").read_text() == "wrong tag\n"
    assert development.tags == ()


def test_a_failed_publish_is_not_retried_on_the_same_commit(development: Repository) -> None:
    make_dry_run(development)
    with pytest.raises(ReleaseError, match="never retried on the same commit"):
        check_dry_run(development)
    git(development.root, "tag", "--delete", "v0.1.0.dev0")
    git(development.root, "tag", "v0.1.0.dev9")
    with pytest.raises(ReleaseError, match=r"This commit is v0\.1\.0\.dev9 already"):
        check_dry_run(development)


def test_a_final_version_has_no_dry_run(repository: Repository) -> None:
    with pytest.raises(ReleaseError, match="It would be published"):
        check_dry_run(repository)


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
    monkeypatch.setattr("mogemma_release.publishing.write_whole", write_all_but_the_fragment)
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
