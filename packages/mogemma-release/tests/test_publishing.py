from __future__ import annotations

import json
from pathlib import Path

import pytest
from throwaway import add_remote, git, make_step, release, write

from mogemma_release.commands import dry_run
from mogemma_release.decision import Proof
from mogemma_release.errors import NeedsOutsideError, ReleaseError
from mogemma_release.evidence import Bundle
from mogemma_release.notes import NOTES, TITLE
from mogemma_release.publishing import check_dry_run, make_dry_run
from mogemma_release.remote import push
from mogemma_release.repository import Repository

PAGE = f"""{TITLE} 0.1.0

## Quality

| step | log |
|---|---|
| install | [01-install.log](logs/01-install.log) |

## Performance

![generation, every round](plots/generation.svg)

## Artifacts
"""


@pytest.fixture
def all_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma_release.publishing.decide", lambda case: [Proof("item", "claim", True, "proof")])


@pytest.fixture
def remote(repository: Repository, tmp_path: Path) -> Path:
    return add_remote(repository.root, tmp_path / "remote.git")


def collected(repository: Repository) -> Bundle:
    """A bundle with its page, as if every step had run."""
    bundle = Bundle.begin(repository)
    bundle.add(NOTES, PAGE)
    return bundle


@pytest.mark.usefixtures("all_go")
def test_the_tag_is_annotated_and_names_the_evidence(repository: Repository) -> None:
    bundle = collected(repository)
    status, text, _ = release(repository, "tag")
    assert (status, "v0.1.0 is tagged here" in text) == (0, True)
    assert git(repository.root, "cat-file", "-t", "v0.1.0").strip() == "tag"
    assert f"evidence sha256:{bundle.digest}" in git(repository.root, "tag", "-n99", "v0.1.0")
    assert git(repository.root, "rev-parse", "v0.1.0^{commit}").strip() == repository.commit


def test_a_no_go_makes_no_tag(repository: Repository) -> None:
    status, _, told = release(repository, "tag")
    assert status == 1
    assert told.startswith("error: No-go, so there is no tag. main: There is no remote origin:")
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
    collected(repository)
    status, text, _ = release(repository, "tag", "--push", "--json")
    told = json.loads(text)
    assert (status, told["ok"], told["needs_outside"]) == (1, False, True)
    assert "There is no remote origin: v0.1.0 stay here" in told["error"]
    assert repository.tags == ("v0.1.0",)


@pytest.mark.usefixtures("all_go")
def test_a_tag_that_could_not_be_pushed_is_pushed_later(repository: Repository, remote: Path) -> None:
    collected(repository)
    assert release(repository, "tag")[0] == 0
    assert release(repository, "tag", "--push")[0] == 0
    assert git(remote, "tag").split() == ["v0.1.0"]


@pytest.mark.usefixtures("all_go")
@pytest.mark.parametrize("how", [["--annotate", "--message", "mogemma 0.1.0"], ["--no-sign"]])
def test_a_tag_that_was_made_by_hand_is_not_pushed(repository: Repository, remote: Path, how: list[str]) -> None:
    collected(repository)
    git(repository.root, "tag", *how, "v0.1.0")
    status, _, told = release(repository, "tag", "--push")
    assert (status, "was not made by `release tag` from this evidence" in told) == (1, True)
    assert git(remote, "tag") == ""


def test_a_tag_is_not_pushed_once_an_item_is_a_no_go(
    repository: Repository, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected(repository)
    with monkeypatch.context() as patch:
        patch.setattr("mogemma_release.publishing.decide", lambda case: [Proof("item", "claim", True, "proof")])
        assert release(repository, "tag")[0] == 0
    status, _, told = release(repository, "tag", "--push")
    assert (status, "No-go, so there is no tag. main:" in told) == (1, True)
    assert git(remote, "tag") == ""


@pytest.mark.usefixtures("all_go")
def test_the_notes_of_a_release_have_the_evidence_that_its_tag_holds(repository: Repository) -> None:
    before = release(repository, "notes")[1]
    assert "- It runs." in before
    assert TITLE not in before
    bundle = collected(repository)
    assert release(repository, "tag")[0] == 0
    notes = release(repository, "notes")[1]
    assert notes.startswith(before.rstrip())
    assert "| install | 01-install.log |" in notes
    assert "## Performance\n\n## Artifacts" in notes, "plots are in the bundle only"
    assert notes.rstrip().endswith(f"evidence sha256:{bundle.digest}")


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
