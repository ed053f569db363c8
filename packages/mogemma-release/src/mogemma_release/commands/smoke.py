"""`release smoke`: does what was built run?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..artifacts.checks import as_text
from ..artifacts.smoke import find_model
from ..artifacts.smoke import smoke as runs_of
from ..repository import Repository
from .frame import Outcome, release_command


@release_command
@click.argument("dist", type=click.Path(path_type=Path), required=False)
def smoke(repository: Repository, dist: Path | None) -> Outcome:
    """Install each artifact in DIST alone, on every Python found, and let it write a token. [default: dist in the
    repository]
    """
    runs = runs_of(repository, dist or repository.root / "dist", find_model(), lambda line: click.echo(line, err=True))
    checks = list(runs)
    ok = all(check.passed is not False for check in checks) and any(check.passed for check in checks)
    return Outcome(as_text(checks), {"runs": [asdict(check) for check in checks]}, ok=ok)
