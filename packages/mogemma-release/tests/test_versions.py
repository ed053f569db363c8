from __future__ import annotations

import pytest
from throwaway import git, make_repository, set_version, write

from mogemma_release.errors import ReleaseError
from mogemma_release.repository import Repository
from mogemma_release.versions import check_new, previous_tag, read_version


def test_a_final_version_without_a_tag_is_new(repository: Repository) -> None:
    assert str(check_new(repository)) == "0.1.0"


def test_a_development_version_is_not_released(repository: Repository) -> None:
    set_version(repository.root, "0.1.0.dev3")
    with pytest.raises(ReleaseError, match=r"0\.1\.0\.dev3 is a development version"):
        check_new(Repository(repository.root))


def test_a_tag_that_exists_is_refused(repository: Repository) -> None:
    git(repository.root, "tag", "v0.1.0")
    with pytest.raises(ReleaseError, match=r"The tag v0\.1\.0 exists"):
        check_new(repository)


@pytest.mark.parametrize("tag", ["v0.1.1", "v0.2.0", "v0.10.0"])
def test_a_version_that_is_not_newer_is_refused(repository: Repository, tag: str) -> None:
    git(repository.root, "tag", tag)
    with pytest.raises(ReleaseError, match=r"0\.1\.0 is not newer than"):
        check_new(repository)


def test_other_tags_are_no_releases(repository: Repository) -> None:
    for tag in ("v0.2.0.dev1", "v9rc1", "nightly", "0.5.0", "vwhatever"):
        git(repository.root, "tag", tag)
    assert str(check_new(repository)) == "0.1.0"
    assert previous_tag(repository) is None


def test_the_release_before_is_the_newest_one_below(repository: Repository) -> None:
    for tag in ("v0.0.9", "v0.0.10", "v0.0.2"):
        git(repository.root, "tag", tag)
    assert previous_tag(repository) == "v0.0.10"


def test_packages_of_different_versions_are_refused(repository: Repository) -> None:
    write(repository.root / "packages" / "mogemma-bench" / "pyproject.toml", 'version = "0.2.0"\n')
    with pytest.raises(ReleaseError, match=r"different versions \(mogemma 0\.1\.0, mogemma-bench 0\.2\.0"):
        _ = Repository(repository.root).version


@pytest.mark.parametrize("text", ["", "one", "1..2", "v"])
def test_what_is_no_version_is_a_sentence(text: str) -> None:
    with pytest.raises(ReleaseError, match="is no version such as"):
        read_version(text)


def test_another_folder_is_no_repository(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = make_repository(tmp_path_factory.mktemp("a") / "repository").root
    git(root, "rm", "-rq", "packages")
    with pytest.raises(ReleaseError, match="is not mogemma's repository"):
        Repository.find(root)
    with pytest.raises(ReleaseError, match="git rev-parse"):
        Repository.find(tmp_path_factory.mktemp("plain"))
