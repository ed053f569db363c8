"""`release tag`: the annotated tag that starts the publishing workflow."""

from __future__ import annotations

from pathlib import Path

import click

from ..decision import Case
from ..publishing import check_tag, make_tag
from ..remote import push
from ..repository import Repository
from ..versions import tag_of
from .frame import Outcome, release_command
from .go import against_option, ci_option


@release_command
@ci_option
@against_option
@click.option(
    "--push", "is_pushed", is_flag=True, help="Send the tag to GitHub, where it publishes. Cannot be taken back."
)
def tag(repository: Repository, ci: Path | None, against: str | None, is_pushed: bool) -> Outcome:
    """Tag this commit as the release of its version, if it is a go."""
    case = Case(repository, ci, against)
    name = tag_of(repository.version)
    if is_pushed and name in repository.git("tag", "--points-at", "HEAD").split():
        check_tag(case, name)  # an earlier call made it, and only sending it is left
    else:
        make_tag(case)
    if is_pushed:
        push(repository, [name])
    text = f"{name} is pushed" if is_pushed else f"{name} is tagged here; `release tag --push` sends it"
    return Outcome(text, {"tag": name, "pushed": is_pushed})
