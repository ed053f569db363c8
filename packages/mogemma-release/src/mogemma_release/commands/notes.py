"""`release notes`: what a release says of itself."""

from __future__ import annotations

from pathlib import Path

import click

from ..files import write_whole
from ..notes import release_notes
from ..repository import Repository
from .frame import Outcome, release_command


@release_command
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write them there.")
def notes(repository: Repository, output: Path | None) -> Outcome:
    """Print the notes of this version: the changelog's section, or what its fragments will make of it."""
    text = release_notes(repository)
    if output:
        write_whole(output, text)
    return Outcome(f"{output} has the notes" if output else text, {"version": repository.version, "notes": text})
