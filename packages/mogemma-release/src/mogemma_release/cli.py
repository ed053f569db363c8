"""`release`: the runbook of mogemma, step by step."""

from __future__ import annotations

import click

from .commands.build import build
from .commands.inspect import inspect
from .commands.reproduce import reproduce
from .commands.smoke import smoke

COMMANDS: tuple[click.Command, ...] = (build, inspect, reproduce, smoke)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mogemma-release")
def main() -> None:
    """Release mogemma by its runbook (docs/release-runbook.md). `release plan` says what would run."""


for _command in COMMANDS:
    main.add_command(_command)
