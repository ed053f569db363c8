"""`release`: for now the plan of the runbook, and no step that runs."""

from __future__ import annotations

import click

PLAN = """\
Releasing mogemma will take these steps, in this order. None of them is written yet, so nothing runs.

  preflight   make check-release passes on a clean tree, and the version is new
  evidence    each command of the release notes, with its output, duration and tool versions
  reproduce   sdist and wheels built twice in different folders, compared byte for byte
  smoke       every artifact installed in a new environment of each Python: import, and one real token
  baselines   speed against the previous release, on the same machine
  go          every item with its proof; anything missing is a no-go
  tag         an annotated tag, which starts the publishing workflow
  rollback    notes that deprecate a bad release, and the version that follows it; nothing is deleted

Until then a release is checked with `make check-release` and built with `make build`.
"""


@click.command()
@click.version_option(package_name="mogemma-release")
def main() -> None:
    """Show what releasing mogemma will do, step by step."""
    click.echo(PLAN, nl=False)
