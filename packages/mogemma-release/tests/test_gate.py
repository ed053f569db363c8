from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from throwaway import PROJECT, commit, git

from mogemma_release.cli import main
from mogemma_release.errors import ReleaseError
from mogemma_release.gate import judge
from mogemma_release.repository import Repository


def on_main(repository: Repository) -> None:
    """As a clone sees it whose origin has this commit on main."""
    git(repository.root, "update-ref", "refs/remotes/origin/main", "HEAD")


def annotate(repository: Repository, tag: str) -> None:
    git(repository.root, "tag", "--annotate", "--message", tag, tag)


def set_version(repository: Repository, version: str) -> Repository:
    for project in repository.root.glob("packages/*/pyproject.toml"):
        project.write_text(PROJECT.format(name=project.parent.name, version=version), encoding="utf-8")
    commit(repository.root, version)
    return Repository(repository.root)


def test_an_annotated_final_tag_on_main_is_published(repository: Repository) -> None:
    on_main(repository)
    annotate(repository, "v0.1.0")
    assert judge(repository, "v0.1.0").publish


def test_main_may_have_gone_on_since(repository: Repository) -> None:
    annotate(repository, "v0.1.0")
    (repository.root / "more").touch()
    commit(repository.root, "second")
    on_main(repository)
    git(repository.root, "checkout", "--quiet", "v0.1.0")
    assert judge(repository, "v0.1.0").publish


@pytest.mark.parametrize("version", ["0.2.0.dev1", "0.2.0a1", "0.2.0b2", "0.2.0rc1", "0.2.0.post1"])
def test_no_other_version_is_published(repository: Repository, version: str) -> None:
    changed = set_version(repository, version)
    on_main(changed)
    annotate(changed, f"v{version}")
    verdict = judge(changed, f"v{version}")
    assert (verdict.publish, verdict.reason) == (False, f"{version} is no final version")


def test_an_older_version_than_one_that_is_released_is_refused(repository: Repository) -> None:
    """Whoever asks for the newest would get what is old."""
    annotate(repository, "v0.1.1")
    (repository.root / "more").touch()
    commit(repository.root, "second")
    on_main(repository)
    annotate(repository, "v0.1.0")
    with pytest.raises(ReleaseError, match=r"0\.1\.0 is not newer than 0\.1\.1"):
        judge(repository, "v0.1.0")


def test_a_tag_beside_main_is_a_dry_run(repository: Repository) -> None:
    on_main(repository)
    (repository.root / "scratch").touch()
    head = commit(repository.root, "on a scratch branch")
    annotate(repository, "v0.1.0")
    verdict = judge(repository, "v0.1.0")
    assert (verdict.publish, verdict.reason) == (False, f"{head[:12]} is not on origin/main")


def test_without_a_tag_it_is_a_dry_run(repository: Repository) -> None:
    assert not judge(repository, None).publish


def test_another_versions_tag_is_refused(repository: Repository) -> None:
    annotate(repository, "v9.9.9")
    with pytest.raises(ReleaseError, match=r"v9\.9\.9 is on a commit of version 0\.1\.0"):
        judge(repository, "v9.9.9")


def test_a_tag_without_an_author_is_refused(repository: Repository) -> None:
    on_main(repository)
    git(repository.root, "tag", "v0.1.0")
    with pytest.raises(ReleaseError, match="git tag --annotate"):
        judge(repository, "v0.1.0")


def test_a_tag_on_another_commit_is_refused(repository: Repository) -> None:
    annotate(repository, "v0.1.0")
    (repository.root / "more").touch()
    commit(repository.root, "second")
    with pytest.raises(ReleaseError, match="is checked out"):
        judge(repository, "v0.1.0")


def test_a_clone_that_does_not_know_main_publishes_nothing(repository: Repository) -> None:
    annotate(repository, "v0.1.0")
    with pytest.raises(ReleaseError):
        judge(repository, "v0.1.0")


def test_the_command_says_what_a_step_gives_on(repository: Repository) -> None:
    on_main(repository)
    annotate(repository, "v0.1.0")
    asked = ["gate", "v0.1.0", "--root", str(repository.root)]
    lines = CliRunner().invoke(main, asked).output.splitlines()
    assert lines == ["version=0.1.0", "publish=true", "reason=0.1.0 is final and on origin/main"]
    assert json.loads(CliRunner().invoke(main, [*asked, "--json"]).output)["publish"] is True


def test_the_command_fails_on_a_tag_that_cannot_be(repository: Repository) -> None:
    """So that the workflow ends there."""
    asked = CliRunner().invoke(main, ["gate", "v1.0.0", "--root", str(repository.root)])
    assert (asked.exit_code, asked.stdout) == (1, "")
