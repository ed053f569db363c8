"""`release dry-run`: everything but the upload."""

from __future__ import annotations

import click

from ..errors import ReleaseError
from ..process import run
from ..publishing import check_dry_run, make_dry_run
from ..remote import push
from ..repository import Repository
from ..runbook import EVIDENCE
from ..signals import StoppedError
from ..versions import tag_of
from .frame import Outcome, release_command

REHEARSED = ("wheels", "inspect", "smoke")
"""Steps of the evidence that the publishing workflow takes too."""


@release_command
@click.option(
    "--push", "is_pushed", is_flag=True, help="Send branch and tag to GitHub, where the workflow runs on them."
)
def dry_run(repository: Repository, is_pushed: bool) -> Outcome:
    """Build and try everything here, then tag a scratch branch with the development version."""
    tag = tag_of(repository.version)
    branch = f"dry-run/{tag}"
    if not (is_pushed and tag in repository.git("tag", "--points-at", "HEAD").split()):
        check_dry_run(repository)
        _rehearse(repository)
        branch, tag = make_dry_run(repository)
    if is_pushed:
        push(repository, [branch, tag])
    text = f"{branch} and {tag} are {'pushed' if is_pushed else 'here; `release dry-run --push` sends them'}"
    return Outcome(text, {"branch": branch, "tag": tag, "steps": list(REHEARSED), "pushed": is_pushed})


def _rehearse(repository: Repository) -> None:
    logs = repository.root / "build" / "dry-run"
    logs.mkdir(parents=True, exist_ok=True)
    for step in EVIDENCE:
        if step.name in REHEARSED:
            click.echo(f"{step.name}: {step.typed}", err=True)
            command = ["bash", "-c", f"set -euo pipefail; {step.command}"]
            log = logs / f"{step.name}.log"
            try:
                ran = run(command, repository.root, log, limit_seconds=step.limit_seconds)
            except KeyboardInterrupt as stop:
                raise StoppedError("interrupted: all steps will run again. Nothing was tagged.", stop) from None
            if not ran.passed:
                raise ReleaseError(f"{step.name} failed with status {ran.exit_status}: see {log}. Nothing was tagged.")
