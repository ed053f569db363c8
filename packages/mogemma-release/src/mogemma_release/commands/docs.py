"""`release docs`: the pages that are written from the runbook and the baselines."""

from __future__ import annotations

import click

from ..errors import ReleaseError
from ..pages import stale_pages, write_pages
from ..repository import Repository
from ..runbook import BASELINES_PAGE, RUNBOOK_PAGE
from .frame import Outcome, release_command


@release_command
@click.option("--check", is_flag=True, help="Write nothing; exit status 1 if a page differs from what it would be.")
def docs(repository: Repository, check: bool) -> Outcome:
    """Write docs/release-runbook.md and docs/performance-baselines.md."""
    if check:
        if stale := stale_pages(repository):
            shown = "\n".join(stale.values())
            raise ReleaseError(
                f"{' and '.join(stale)} differ from what they are written from (`release docs`):\n{shown}"
            )
        return Outcome("", {"pages": [RUNBOOK_PAGE, BASELINES_PAGE], "stale": []})
    changed = write_pages(repository)
    return Outcome("\n".join(f"wrote {name}" for name in changed), {"changed": changed})
