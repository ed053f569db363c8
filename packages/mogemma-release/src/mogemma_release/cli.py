"""`release`: the runbook of mogemma, step by step."""

from __future__ import annotations

import click

from .commands.baselines import baselines
from .commands.build import build
from .commands.docs import docs
from .commands.dry_run import dry_run
from .commands.evidence import evidence
from .commands.gate import gate
from .commands.go import go
from .commands.inspect import inspect
from .commands.notes import notes
from .commands.plan import plan
from .commands.preflight import preflight
from .commands.reproduce import reproduce
from .commands.rollback import rollback
from .commands.smoke import smoke
from .commands.tag import tag

COMMANDS: tuple[click.Command, ...] = (
    plan,
    preflight,
    build,
    inspect,
    smoke,
    reproduce,
    evidence,
    baselines,
    go,
    notes,
    tag,
    gate,
    dry_run,
    rollback,
    docs,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mogemma-release")
def main() -> None:
    """Release mogemma by its runbook (docs/release-runbook.md). `release plan` says what would run."""


for _command in COMMANDS:
    main.add_command(_command)
