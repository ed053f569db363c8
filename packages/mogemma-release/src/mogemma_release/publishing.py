"""What changes the repository: the tag of a release, a dry run's branch and tag, and the way back from a bad release."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from packaging.version import Version

from . import changelog
from .decision import Case, decide
from .errors import ReleaseError
from .files import write_whole
from .notes import NOTES, without_bundle
from .repository import Repository
from .versions import check_new, read_version, tag_message, tag_of


def make_tag(case: Case) -> str:
    """Tag the current commit as the release of its version, if every item is a go; the tag.

    Its message is the evidence: the page of the bundle, for the notes of the release, and the bundle's digest.

    Raises:
        ReleaseError: The tree is dirty, the tag exists, the version is not newer, or an item is a no-go.
    """
    repository = case.repository
    version = check_new(repository)
    _check_go(case)
    tag = tag_of(str(version))
    page = without_bundle((case.bundle.folder / NOTES).read_text(encoding="utf-8"))
    message = f"mogemma {version}\n\n{page}\n{_names_evidence(case)}\n"
    # As it is: by default git takes headings of Markdown for comments.
    repository.git("tag", "--annotate", "--cleanup=verbatim", tag, "--message", message)
    return tag


def check_tag(case: Case, tag: str) -> None:
    """Hold a tag that the current commit has already to what `make_tag` would make of it now.

    Raises:
        ReleaseError: It was made otherwise, or an item is a no-go.
    """
    if _names_evidence(case) not in tag_message(case.repository, tag).splitlines():
        raise ReleaseError(
            f"{tag} was not made by `release tag` from this evidence, so it is not pushed. Delete it here "
            f"(`git tag --delete {tag}`), and make it anew."
        )
    _check_go(case)


def _check_go(case: Case) -> None:
    if missing := [proof for proof in decide(case) if not proof.passed]:
        told = "; ".join(f"{proof.item}: {proof.detail}" for proof in missing)
        raise ReleaseError(f"No-go, so there is no tag. {told}")


def _names_evidence(case: Case) -> str:
    return f"evidence sha256:{case.bundle.digest}"


def make_dry_run(repository: Repository) -> tuple[str, str]:
    """Make the scratch branch and the pre-release tag of a dry run at the current commit; both names.

    Raises:
        ReleaseError: The tree is dirty, the version is final, or this version or commit has had its dry run.
    """
    check_dry_run(repository)
    tag = tag_of(repository.version)
    branch = f"dry-run/{tag}"
    repository.git("branch", "--force", branch, "HEAD")
    repository.git("tag", "--annotate", tag, "--message", f"dry run of mogemma {repository.version}")
    return branch, tag


def check_dry_run(repository: Repository) -> None:
    """Refuse a dry run that would be a second one, or a release; errors as `make_dry_run`."""
    version = read_version(repository.version)
    if not version.is_prerelease:
        raise ReleaseError(f"{version} is final: a dry run has a development version. It would be published.")
    if repository.changes:
        raise ReleaseError("The tree has changes. Commit them first: a dry run is of a commit.")
    if tag_of(str(version)) in repository.tags:
        raise ReleaseError(
            f"The tag {tag_of(str(version))} exists. A failed publish is never retried on the same commit: mend it, "
            "commit, and `uv run bump-my-version bump round`."
        )
    if tried := [tag for tag in repository.git("tag", "--points-at", "HEAD").split() if tag.startswith("v")]:
        raise ReleaseError(f"This commit is {tried[0]} already. A failed publish is never retried on the same commit.")


@dataclass(frozen=True)
class Rollback:
    """What a rollback wrote.

    Attributes:
        successor: The version that replaces the affected one.
        files: Paths in the repository that changed.
        notes: What the affected release's page should say from now on.
    """

    version: str
    successor: str
    files: tuple[str, ...]
    notes: str


def roll_back(repository: Repository, text: str, reason: str) -> Rollback:
    """Deprecate a published release in its notes, and prepare the version that follows it. Deletes nothing.

    Raises:
        ReleaseError: There is no such release, it is deprecated already, or the tree has changes.
    """
    version = read_version(text)
    if tag_of(str(version)) not in repository.tags:
        raise ReleaseError(f"There is no tag {tag_of(str(version))}: {version} was never released from this clone.")
    if repository.changes:
        raise ReleaseError("The tree has changes. Commit them or put them away first.")
    reason = " ".join(reason.split())
    if not reason:
        raise ReleaseError("A release is deprecated for a reason: --reason TEXT.")
    reason = reason if reason[-1] in ".!?" else f"{reason}."
    current = read_version(repository.version)
    successor = current.base_version if current > version else f"{version.major}.{version.minor}.{version.micro + 1}"
    deprecated = changelog.deprecate(repository, str(version), reason, successor)
    if current <= version:
        _begin(repository, Version(f"{successor}.dev0"))
    fragment = f"{changelog.FRAGMENTS}/+replaces-{version}.bugfix.md"
    write_whole(repository.root / changelog.CHANGELOG, deprecated)
    write_whole(repository.root / fragment, f"Replaces {version}, which is deprecated: {reason}\n")
    changed = Repository(repository.root)
    notes = f"# mogemma {version}\n\n{changelog.section(changed, str(version))}\n"
    return Rollback(str(version), successor, changed.changes, notes)


def _begin(repository: Repository, version: Version) -> None:
    """Give all packages a version."""
    command = [sys.executable, "-m", "bumpversion", "bump", "--new-version", str(version), "--no-commit", "--no-tag"]
    done = subprocess.run(command, cwd=repository.root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"bump-my-version refuses: {done.stderr.strip() or done.stdout.strip()}")
