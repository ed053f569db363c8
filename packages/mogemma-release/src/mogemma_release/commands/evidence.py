"""`release evidence`: run the steps that prove a release, and keep what they say."""

from __future__ import annotations

from contextlib import suppress

import click
from rich.console import Console

from ..evidence import Bundle, Entry, check_tree, collect, set_aside
from ..files import locked
from ..notes import NOTES, write_evidence_page
from ..repository import Repository
from ..runbook import Step
from ..signals import StoppedError
from .frame import Outcome, release_command


@release_command
@click.option("--fresh", is_flag=True, help="Set evidence that there is aside (it is kept), and begin anew.")
@click.option("--quiet", is_flag=True, help="Do not show what the steps print; it is in the logs anyway.")
def evidence(repository: Repository, fresh: bool, quiet: bool) -> Outcome:
    """Run the evidence steps into evidence/VERSION; go on where an earlier run stopped."""
    lock = Bundle.folder_of(repository).with_name(".lock")
    with locked(lock, "Another `release evidence` is going on here: wait for it, or end it. Nothing was changed."):
        return _collect(repository, fresh, quiet)


def _collect(repository: Repository, fresh: bool, quiet: bool) -> Outcome:
    check_tree(repository)
    aside = set_aside(repository) if fresh else None
    bundle = Bundle.resume(repository)
    progress = _Progress(quiet)
    try:
        failed = collect(bundle, repository, begins=progress.begins, listen=progress.listen, ends=progress.ends)
    except KeyboardInterrupt as stop:
        raise StoppedError("interrupted: the step will run again, those before it will not", stop) from None
    finally:
        progress.close()
    if failed is None:
        write_evidence_page(bundle)
    steps = [
        {"step": entry.step, "seconds": entry.seconds, "exit_status": entry.exit_status} for entry in bundle.entries
    ]
    data = {"folder": str(bundle.folder), "steps": steps, "missing": list(bundle.missing), "digest": bundle.digest}
    set_aside_as = f"; earlier evidence is in {aside}" if aside else ""
    if failed:
        how = "took too long and was ended" if failed.timed_out else f"failed with status {failed.exit_status}"
        text = f"{failed.step} {how}: see {bundle.folder / failed.log}. Mend it, and run `release evidence` again"
        return Outcome(text + set_aside_as, data, ok=False)
    return Outcome(f"{len(steps)} steps passed: {bundle.folder / NOTES}, bundle {bundle.digest}{set_aside_as}", data)


class _Progress:
    """Says on standard error which step runs, and on a terminal what it printed last."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._quiet = quiet
        self._is_live = self._console.is_terminal
        self._status = self._console.status("")

    def begins(self, step: Step) -> None:
        self._console.print(f"{step.name}: {step.typed}")
        if self._is_live and not self._quiet:
            self._status.start()

    def listen(self, line: str) -> None:
        if self._is_live and not self._quiet:
            self._status.update(line[: self._console.width - 4])

    def close(self) -> None:
        """Give the terminal its cursor back, if there is still a terminal."""
        with suppress(OSError):
            self._status.stop()

    def ends(self, entry: Entry) -> None:
        self._status.stop()
        self._console.print(f"{entry.step}: {'passed' if entry.passed else 'FAILED'} in {entry.seconds:.1f} s")
