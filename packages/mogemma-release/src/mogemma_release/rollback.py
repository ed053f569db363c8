"""The way back from a bad release: its deprecation, and the version that follows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from packaging.version import Version

from . import changelog
from .errors import ReleaseError
from .files import write_whole
from .repository import Repository
from .versions import read_version, released, tag_of

WRITTEN = (changelog.CHANGELOG, "pyproject.toml", "packages/*/pyproject.toml", "uv.lock")
"""The files, as patterns of git, that a rollback changes. It makes one besides, its fragment, as the last thing it does."""


@dataclass(frozen=True)
class Rollback:
    """What a rollback wrote.

    Attributes:
        successor: The version to use in place of the affected one.
        follow_up: The version that is in preparation now.
        files: Paths in the repository that changed.
        notes: What the affected release's page should say from now on.
    """

    version: str
    successor: str
    follow_up: str
    files: tuple[str, ...]
    notes: str


def roll_back(repository: Repository, text: str, reason: str) -> Rollback:
    """Deprecate a published release in its notes, and prepare the version that follows. Deletes nothing.

    The way out that the notes name is the newest later release that is not deprecated itself, since that one can be had
    today; where there is none, it is the follow-up. The follow-up is prepared in either case, for its notes tell of the
    deprecation: it is the version that the repository has begun, and where that one is released already, the patch after
    the newest release.

    Raises:
        ReleaseError: There is no such release, it is deprecated already, the tree has changes, or something cannot be
            written; the tree is as it was then.
    """
    version = read_version(text)
    if tag_of(str(version)) not in repository.tags:
        raise ReleaseError(f"There is no tag {tag_of(str(version))}: {version} was never released from this clone.")
    if repository.changes:
        raise ReleaseError("The tree has changes. Commit them or put them away first.")
    reason = _sentence(reason)
    newest = max([version, *released(repository)])
    current = read_version(repository.version)
    has_begun = current > newest
    follow_up = current.base_version if has_begun else f"{newest.major}.{newest.minor}.{newest.micro + 1}"
    successor = _way_out(repository, version) or follow_up
    deprecated = changelog.deprecate(repository, str(version), reason, successor)
    fragment = f"{changelog.FRAGMENTS}/+deprecates-{version}.bugfix.md"
    with _all_or_nothing(repository):
        if not has_begun:
            _begin(repository, Version(f"{follow_up}.dev0"))
        write_whole(repository.root / changelog.CHANGELOG, deprecated)
        write_whole(repository.root / fragment, f"{version} is deprecated: {reason} Use {successor} or newer.\n")
    changed = Repository(repository.root)
    notes = f"# mogemma {version}\n\n{changelog.section(changed, str(version))}\n"
    return Rollback(str(version), successor, follow_up, changed.changes, notes)


def _sentence(reason: str) -> str:
    reason = " ".join(reason.split())
    if not reason:
        raise ReleaseError("A release is deprecated for a reason: --reason TEXT.")
    return reason if reason[-1] in ".!?" else f"{reason}."


def _way_out(repository: Repository, version: Version) -> str | None:
    """The newest release after a version of which the changelog does not say that it is deprecated."""
    for later in reversed(released(repository)):
        body = changelog.section(repository, str(later)) or ""
        if later > version and not changelog.deprecation_of(body):
            return str(later)
    return None


@contextmanager
def _all_or_nothing(repository: Repository) -> Iterator[None]:
    """Whatever ends what is done in it, what a rollback writes into a clean tree is taken back."""
    try:
        yield
    except BaseException as error:
        if touched := repository.git("diff", "--name-only", "-z", "--", *WRITTEN).split("\0")[:-1]:
            repository.git("restore", "--", *touched)
        if isinstance(error, ReleaseError):
            raise ReleaseError(f"{error} The tree is as it was.") from error
        raise


def _begin(repository: Repository, version: Version) -> None:
    """Give all packages a version."""
    command = [sys.executable, "-m", "bumpversion", "bump", "--new-version", str(version), "--no-commit", "--no-tag"]
    done = subprocess.run(command, cwd=repository.root, capture_output=True, text=True, check=False)
    if done.returncode:
        told = done.stderr.strip() or done.stdout.strip()
        in_its_box = " ".join(re.findall(r"^│ (.*?) *│$", told, re.MULTILINE))
        raise ReleaseError(f"bump-my-version: {in_its_box or told}")
