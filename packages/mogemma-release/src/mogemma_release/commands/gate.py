"""`release gate`: what the publishing workflow asks first."""

from __future__ import annotations

import click

from ..gate import judge
from ..repository import Repository
from .frame import Outcome, release_command


@release_command
@click.argument("tag", required=False)
def gate(repository: Repository, tag: str | None) -> Outcome:
    """Say whether the commit that is checked out is published under TAG, or only tried.

    The text is what a step of a workflow takes for its outputs. A tag that the commit cannot have is an error.
    """
    verdict = judge(repository, tag)
    publish = "true" if verdict.publish else "false"
    text = f"version={verdict.version}\npublish={publish}\nreason={verdict.reason}"
    return Outcome(text, {"version": verdict.version, "publish": verdict.publish, "reason": verdict.reason})
