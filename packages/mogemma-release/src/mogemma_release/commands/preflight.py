"""`release preflight`: what `make check-release` runs."""

from __future__ import annotations

import subprocess

from ..errors import ReleaseError
from ..measurements import Baseline
from ..pages import stale_pages
from ..repository import Repository
from ..runbook import BASELINES
from .frame import Outcome, release_command

_STDERR = 2

TARGETS = ("lint", "check", "test")
"""Of the Makefile, in this order: what is quick to fail comes first."""


@release_command
def preflight(repository: Repository) -> Outcome:
    """Hold versions, pages and baselines to each other, then run `make lint`, `make check` and `make test`."""
    version = repository.version
    for name in BASELINES.values():
        Baseline.read(repository.root / name)
    if stale := stale_pages(repository):
        shown = "\n".join(stale.values())
        raise ReleaseError(f"{' and '.join(stale)} differ from what they are written from (`release docs`):\n{shown}")
    for target in TARGETS:
        # Its output is for whoever waits, on standard error; standard output is kept for the result.
        done = subprocess.run(["make", target], cwd=repository.root, stdout=_STDERR, check=False)
        if done.returncode:
            raise ReleaseError(f"`make {target}` failed with status {done.returncode}: {version} is not ready.")
    note = f"; not committed: {', '.join(repository.changes)}" if repository.changes else ""
    data = {"version": version, "targets": list(TARGETS), "changes": list(repository.changes)}
    return Outcome(f"{version} passes {', '.join(TARGETS)}{note}", data)
