"""`release tag`: the annotated tag that starts the publishing workflow."""

from __future__ import annotations

from pathlib import Path

import click

from ..decision import Case
from ..publishing import make_tag, push
from ..repository import Repository
from ..versions import tag_of
from .frame import Outcome, release_command
from .go import ci_option


@release_command
@ci_option
@click.option(
    "--push", "is_pushed", is_flag=True, help="Send the tag to GitHub, where it publishes. Cannot be taken back."
)
def tag(repository: Repository, ci: Path | None, is_pushed: bool) -> Outcome:
    """Tag this commit as the release of its version, if it is a go."""
    name = tag_of(repository.version)
    if is_pushed and _is_made(repository, name):
        push(repository, [name])
        return Outcome(f"{name} is pushed", {"tag": name, "pushed": True})
    name = make_tag(Case(repository, ci))
    if is_pushed:
        push(repository, [name])
    text = f"{name} is pushed" if is_pushed else f"{name} is tagged here; `release tag --push` sends it"
    return Outcome(text, {"tag": name, "pushed": is_pushed})


def _is_made(repository: Repository, name: str) -> bool:
    """Whether an earlier call made the tag at this commit, and only sending it is left."""
    return name in repository.git("tag", "--points-at", "HEAD").split()
