"""What every command of `release` has: the repository it works on, `--json`, and one way to end.

A command is a function from a Repository (and its own options) to an Outcome. As text an Outcome goes to standard output
as it is; with --json its data does. Errors are one sentence on standard error, or an object with --json; the exit status is 1,
or 128 and the number of the signal that has interrupted the command.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from ..errors import NeedsOutsideError, ReleaseError
from ..repository import Repository
from ..signals import StoppedError, stopped_by_signals


@dataclass(frozen=True)
class Outcome:
    """What a command found or did.

    Attributes:
        text: For a person.
        data: For a program; what json.dumps takes.
        ok: False makes the exit status 1.
    """

    text: str
    data: Mapping[str, Any]
    ok: bool = True


def release_command(function: Callable[..., Outcome]) -> click.Command:
    """A click command out of a function; its options are decorated beneath."""

    @click.option("--json", "as_json", is_flag=True, help="A JSON document instead of text.")
    @click.option(
        "--root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="The repository. [default: the one this folder is in]",
    )
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, root: Path | None, **options: Any) -> None:
        try:
            with stopped_by_signals():
                outcome = function(*args, Repository.find(root or Path.cwd()), **options)
        except KeyboardInterrupt as stop:
            _fail(StoppedError("interrupted", stop), as_json=as_json)
        except (ReleaseError, OSError) as error:  # a full disk, a folder that may not be written: the system's sentence
            _fail(error, as_json=as_json)
        click.echo(json.dumps({"ok": outcome.ok, **outcome.data}, indent=1) if as_json else outcome.text.rstrip("\n"))
        sys.exit(0 if outcome.ok else 1)

    return click.command(run)


def _fail(error: Exception, *, as_json: bool) -> NoReturn:
    if as_json:
        needs_outside = isinstance(error, NeedsOutsideError)
        click.echo(json.dumps({"ok": False, "error": str(error), "needs_outside": needs_outside}))
    else:
        with suppress(OSError):  # the terminal is closed: that it is, is why the command was interrupted
            click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_status if isinstance(error, StoppedError) else 1)
