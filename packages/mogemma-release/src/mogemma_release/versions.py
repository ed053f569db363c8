"""Versions and their tags (PEP 440)."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from .errors import ReleaseError
from .repository import Repository


def tag_of(version: str) -> str:
    return f"v{version}"


def read_version(text: str) -> Version:
    try:
        return Version(text.removeprefix("v"))
    except InvalidVersion:
        raise ReleaseError(f"{text!r} is no version such as 1.2.3.") from None


def released(repository: Repository) -> dict[Version, str]:
    """The tag of each final version, from the oldest to the newest."""
    found = {}
    for tag in repository.tags:
        try:
            version = Version(tag.removeprefix("v"))
        except InvalidVersion:
            continue
        if tag.startswith("v") and not version.is_prerelease:
            found[version] = tag
    return dict(sorted(found.items()))


def tag_message(repository: Repository, tag: str) -> str:
    """What an annotated tag says; nothing for one that is not annotated."""
    kind = repository.git("cat-file", "-t", f"refs/tags/{tag}").strip()
    return repository.git("for-each-ref", "--format=%(contents)", f"refs/tags/{tag}") if kind == "tag" else ""


def check_new(repository: Repository, *, may_be_tagged: bool = False) -> Version:
    """The repository's version, which must be final and newer than every release.

    Args:
        may_be_tagged: This commit may have its tag already.

    Raises:
        ReleaseError: It is not.
    """
    version = read_version(repository.version)
    if version.is_prerelease:
        raise ReleaseError(
            f"{version} is a development version. `uv run bump-my-version bump stage` makes the final one of it."
        )
    own = tag_of(str(version))
    is_ours = may_be_tagged and own in repository.git("tag", "--points-at", "HEAD").split()
    if own in repository.tags and not is_ours:
        raise ReleaseError(f"The tag {own} exists. A release never changes: take the next version.")
    older = [other for other, tag in released(repository).items() if tag != own]
    if older and version <= older[-1]:
        raise ReleaseError(f"{version} is not newer than {older[-1]}, which is released. Bump the version.")
    return version


def previous_tag(repository: Repository) -> str | None:
    """The newest final release before the repository's version; None before the first."""
    version = read_version(repository.version)
    older = [tag for before, tag in released(repository).items() if before < version]
    return older[-1] if older else None
