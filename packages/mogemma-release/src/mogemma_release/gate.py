"""Whether what the publishing workflow builds is published or only tried: the tag decides, by the rules here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import ReleaseError
from .repository import Repository
from .versions import check_new, tag_of

MAIN = "origin/main"
"""Where a commit must be for its tag to be published, as a clone knows it."""

_FINAL = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Verdict:
    """What the workflow does with a commit.

    Attributes:
        publish: False for a dry run: everything but the upload and the GitHub release.
        reason: Half a sentence.
    """

    version: str
    publish: bool
    reason: str


def judge(repository: Repository, tag: str | None, main: str = MAIN) -> Verdict:
    """Whether the commit that is checked out is published under a tag; without one it is not.

    Raises:
        ReleaseError: The tag is none that this commit can have, so not even a dry run means anything.
    """
    version = repository.version
    if tag is None:
        return Verdict(version, publish=False, reason="nothing was tagged")
    if tag != tag_of(version):
        raise ReleaseError(
            f"The tag {tag} is on a commit of version {version}, whose tag is {tag_of(version)}. "
            "Run bump-my-version, commit, and tag that commit."
        )
    if repository.git("cat-file", "-t", f"refs/tags/{tag}").strip() != "tag":
        raise ReleaseError(f"The tag {tag} says neither who made it nor when. Make it with git tag --annotate.")
    tagged = repository.git("rev-parse", f"refs/tags/{tag}^{{commit}}").strip()
    if tagged != repository.commit:
        raise ReleaseError(f"The tag {tag} is on {tagged[:12]}, and {repository.commit[:12]} is checked out.")
    if not _FINAL.fullmatch(version):
        return Verdict(version, publish=False, reason=f"{version} is no final version")
    check_new(repository, may_be_tagged=True)
    if repository.git("rev-list", "--max-count=1", tagged, f"^{main}").strip():
        return Verdict(version, publish=False, reason=f"{tagged[:12]} is not on {main}")
    return Verdict(version, publish=True, reason=f"{version} is final and on {main}")
