"""`release plan`: every step, and how far this version has come."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..errors import ReleaseError
from ..evidence import Bundle
from ..repository import Repository
from ..runbook import DRY_RUN, EVIDENCE, PUBLISHING, Needs, Step
from .frame import Outcome, release_command


@release_command
def plan(repository: Repository) -> Outcome:
    """Show every step of the runbook, and which of them this version has behind it. Runs nothing."""
    states, trouble = _evidence_states(repository)
    parts = {"evidence": EVIDENCE, "publishing": PUBLISHING, "dry-run": DRY_RUN}
    data: dict[str, Any] = {"version": repository.version, "commit": repository.commit, "evidence_trouble": trouble}
    lines = [f"mogemma {repository.version}, commit {repository.commit[:12]}"]
    if trouble:
        lines.append(trouble)
    for part, steps in parts.items():
        lines += ["", part]
        lines += [_line(step, states.get(step.name, "") if part == "evidence" else "") for step in steps]
        data[part] = [
            {**asdict(step), "needs": step.needs.value, "state": states.get(step.name) if part == "evidence" else None}
            for step in steps
        ]
    return Outcome("\n".join(lines), data)


def _evidence_states(repository: Repository) -> tuple[dict[str, str], str | None]:
    folder = Bundle.folder_of(repository)
    if not folder.exists():
        return {}, None
    try:
        bundle = Bundle.read(folder)
        bundle.check_current(repository)
    except ReleaseError as error:
        return {}, str(error)
    return {entry.step: "passed" if entry.passed else "failed" for entry in bundle.entries}, None


def _line(step: Step, state: str) -> str:
    needs = "" if step.needs is Needs.NOTHING else f"  (needs {step.needs.value})"
    return f"  {step.name:20} {state:7} {step.typed}{needs}"
