"""The repository on GitHub, as a clone reaches it."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import NeedsOutsideError, ReleaseError
from .repository import Repository

REMOTE = "origin"


def remote_refs(repository: Repository) -> dict[str, str]:
    """The commit or tag object of every branch and tag there.

    Raises:
        NeedsOutsideError: There is no remote, or it cannot be reached.
    """
    _check_remote(repository, "what is on it cannot be seen from here")
    try:
        told = repository.git("ls-remote", "--heads", "--tags", REMOTE)
    except ReleaseError as error:
        raise NeedsOutsideError(f"{REMOTE} cannot be asked: {error}") from error
    return {name: sha for sha, _, name in (line.partition("\t") for line in told.splitlines())}


def push(repository: Repository, names: Sequence[str]) -> None:
    """Send branches or tags to GitHub, all or none.

    Raises:
        NeedsOutsideError: There is no remote, or it cannot be reached; what was made here stays.
    """
    command = f"git push --atomic {REMOTE} {' '.join(names)}"
    stays = f"{' and '.join(names)} stay here; push with `{command}`"
    _check_remote(repository, stays)
    try:
        repository.git(*command.split()[1:])
    except ReleaseError as error:
        raise NeedsOutsideError(f"{error} {stays}.") from error


def _check_remote(repository: Repository, consequence: str) -> None:
    if REMOTE not in repository.git("remote").split():
        raise NeedsOutsideError(f"There is no remote {REMOTE}: {consequence}.")
