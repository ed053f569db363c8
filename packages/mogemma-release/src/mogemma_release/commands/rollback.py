"""`release rollback`: deprecate a bad release, and prepare the one that follows."""

from __future__ import annotations

import click

from ..errors import ReleaseError
from ..files import write_whole
from ..repository import Repository
from ..rollback import roll_back
from ..versions import tag_of
from .frame import Outcome, release_command


@release_command
@click.argument("version")
@click.option("--reason", required=True, metavar="TEXT", help="Why nobody should use it, in a sentence for its users.")
@click.option("--delete", is_flag=True, help="Refused: what was published stays.")
def rollback(repository: Repository, version: str, reason: str, delete: bool) -> Outcome:
    """Write the deprecation of VERSION and the beginning of the version that follows. Nothing is deleted, here or elsewhere."""
    if delete:
        raise ReleaseError(
            f"{version} is not deleted: others may have it in their lock files. Without --delete it is deprecated in its "
            "notes, and the version that follows is prepared."
        )
    done = roll_back(repository, version, reason)
    notes = repository.root / "build" / f"notes-{done.version}.md"
    write_whole(notes, done.notes)
    command = f"gh release edit {tag_of(done.version)} --notes-file {notes.relative_to(repository.root)}"
    lines = [
        f"{done.version} is deprecated: use {done.successor} or newer. {done.follow_up} is prepared. Changed, and not committed:",
        *(f"  {file}" for file in done.files),
        f"On GitHub, which this does not reach: `{command}`",
    ]
    data = {
        "version": done.version,
        "successor": done.successor,
        "follow_up": done.follow_up,
        "files": list(done.files),
        "notes": str(notes),
        "github": command,
    }
    return Outcome("\n".join(lines), data)
