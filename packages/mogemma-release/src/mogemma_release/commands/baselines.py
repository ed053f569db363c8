"""`release baselines`: did anything become slower since the last release?"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from ..errors import ReleaseError
from ..files import write_json
from ..history import changes_since_last_release
from ..measurements import NOISE, Baseline, Change, noise_key
from ..repository import Repository
from ..runbook import EVIDENCE
from .frame import Outcome, release_command


@release_command
@click.option(
    "--against", metavar="REF|FOLDER", help="Compare with these baselines. [default: those of the last release's tag]"
)
@click.option(
    "--noise",
    "n_runs",
    type=click.IntRange(4),
    metavar="N",
    help=f"Run the capturing commands N times instead, and write how far equal runs are apart into {NOISE}.",
)
def baselines(repository: Repository, against: str | None, n_runs: int | None) -> Outcome:
    """Compare the captured baselines with the last release's, by the thresholds of docs/performance-baselines.md."""
    if n_runs:
        return _measure_noise(repository, n_runs)
    changes = changes_since_last_release(repository, against)
    if changes is None:
        return Outcome("There is no release before this one: nothing to compare with.", {"changes": None})
    worse = [change for change in changes if change.is_regression]
    data = {"changes": [{**asdict(change), "is_regression": change.is_regression} for change in changes]}
    lines = [_line(change) for change in changes]
    lines.append(f"{len(worse)} of {len(changes)} figures are worse than their thresholds allow")
    return Outcome("\n".join(lines), data, ok=not worse)


def _line(change: Change) -> str:
    figure = change.figure
    share = "" if change.share_ratio is None else f", of the machine's most x {change.share_ratio:.3f}"
    verdict = "REGRESSION" if change.is_regression else "ok"
    before, after = _spread(change.before, change.before_range), _spread(change.after, change.after_range)
    return (
        f"{verdict:10} {figure.mode} {figure.name}: {before} -> {after} {figure.unit}, "
        f"x {change.ratio:.3f}{share} (threshold {100 * change.threshold:.0f} %; above 1 is better)"
    )


def _spread(median: float, least_and_most: tuple[float, float]) -> str:
    """What is measured once has none."""
    least, most = least_and_most
    return f"{median:,.4g}" if least == most else f"{median:,.4g} ({least:,.4g} to {most:,.4g})"


def _measure_noise(repository: Repository, n_runs: int) -> Outcome:
    load = os.getloadavg()[0]
    found: dict[str, list[float]] = {}
    environment: dict[str, Any] = {}
    for number in range(n_runs):
        for baseline in _capture(repository):
            click.echo(f"run {number + 1} of {n_runs}: {baseline.mode}", err=True)
            environment = {"load_average": round(load, 2), **_of_machine(baseline)}
            for figure in baseline.figures:
                found.setdefault(noise_key(figure, of_share=False), []).append(baseline.median(figure))
                share = baseline.share(figure)
                if share is not None:
                    found.setdefault(noise_key(figure, of_share=True), []).append(share)
    document = {"environment": environment, "runs": found}
    write_json(repository.root / NOISE, document)
    return Outcome(f"{n_runs} runs of each baseline: {NOISE}", document)


def _of_machine(baseline: Baseline) -> dict[str, Any]:
    told = dict(baseline.get("environment"))
    del told["load_average"]  # the first run's own would count for the others
    return told


def _capture(repository: Repository) -> Iterator[Baseline]:
    for step in EVIDENCE:
        if step.output:
            command = shlex.split(step.command)
            done = subprocess.run(command, cwd=repository.root, stdout=subprocess.PIPE, check=False)
            if done.returncode:
                raise ReleaseError(f"`{step.command}` failed with status {done.returncode}; {NOISE} is as it was.")
            yield Baseline(json.loads(done.stdout), step.command)
