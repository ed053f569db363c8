"""`release go`: every item of the decision with its proof."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..decision import CI_QUESTION, Case, decide
from ..repository import Repository
from .frame import Outcome, release_command

ci_option = click.option(
    "--ci",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"What `{CI_QUESTION} COMMIT` prints, where GitHub cannot be asked from here.",
)

against_option = click.option(
    "--against",
    metavar="REF|FOLDER",
    help="Compare with these baselines, captured anew on this machine. [default: those of the last release's tag]",
)


@release_command
@ci_option
@against_option
def go(repository: Repository, ci: Path | None, against: str | None) -> Outcome:
    """Prove every go/no-go item; the exit status is 1 if one is a no-go."""
    proofs = decide(Case(repository, ci, against))
    is_go = all(proof.passed for proof in proofs)
    lines = [
        f"{'go' if proof.passed else 'NO-GO':6} {proof.item}: {proof.claim}\n       {proof.detail}" for proof in proofs
    ]
    lines.append(f"{repository.version} on {repository.commit[:12]}: {'go' if is_go else 'no-go'}")
    data = {
        "version": repository.version,
        "commit": repository.commit,
        "go": is_go,
        "items": [asdict(proof) for proof in proofs],
    }
    return Outcome("\n".join(lines), data, ok=is_go)
