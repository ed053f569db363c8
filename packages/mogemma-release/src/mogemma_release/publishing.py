"""The tag of a release, and the branch and tag of a dry run."""

from __future__ import annotations

from .decision import Case, decide
from .errors import ReleaseError
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
