"""Go or no-go: every item of the runbook with its proof, or with what is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import changelog
from .errors import NeedsOutsideError, ReleaseError
from .evidence import Bundle, Entry
from .files import read_json, sha256
from .history import changes_since_last_release
from .notes import NOTES, SECTIONS
from .pages import stale_pages
from .remote import REMOTE, remote_refs
from .repository import Repository
from .runbook import BASELINES, GO
from .versions import check_new

CI_WORKFLOW = "ci.yml"
CI_QUESTION = f"gh run list --workflow {CI_WORKFLOW} --json headSha,event,headBranch,status,conclusion,url --commit"
CI_PROVES = {"push", "workflow_dispatch"}
"""Of a pull request it is not the commit that is tested, but what merging it would give."""


@dataclass(frozen=True)
class Proof:
    """What was found of an item.

    Attributes:
        detail: The proof, or the sentence that says what is missing.
    """

    item: str
    claim: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Case:
    """What a decision is made of.

    Attributes:
        ci: A file with GitHub's answer to CI_QUESTION, for a machine that cannot ask.
        against: Commit, tag or folder of the baselines to compare with, in place of the last release's.
    """

    repository: Repository
    ci: Path | None = None
    against: str | None = None

    @cached_property
    def bundle(self) -> Bundle:
        bundle = Bundle.read(Bundle.folder_of(self.repository))
        bundle.check_sums()
        bundle.check_current(self.repository)
        return bundle

    def step(self, name: str) -> Entry:
        """A step of the evidence that passed.

        Raises:
            ReleaseError: It did not, or has not run.
        """
        entry = self.bundle.entry(name)
        if entry is None:
            raise ReleaseError(f"The step {name} has not run. `release evidence` goes on with it.")
        if not entry.passed:
            how = "took too long and was ended" if entry.timed_out else f"ended with status {entry.exit_status}"
            raise ReleaseError(f"The step {name} {how}; see {entry.log}.")
        return entry

    def shown(self, *names: str) -> str:
        entries = [self.step(name) for name in names]
        return "; ".join(
            f"{entry.step} passed in {entry.seconds:.0f} s on {entry.started}, {entry.log}" for entry in entries
        )


def decide(case: Case) -> list[Proof]:
    """Every item, in the runbook's order."""
    found = []
    for item in GO:
        try:
            detail, passed = PROOFS[item.name](case), True
        except ReleaseError as error:
            detail, passed = str(error), False
        found.append(Proof(item.name, item.claim, passed, detail))
    return found


def _clean_tree(case: Case) -> str:
    if changes := case.repository.changes:
        shown = ", ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise ReleaseError(f"The tree has changes: {shown}. Commit them or put them away.")
    return f"git status names no file; the commit is {case.repository.commit}"


def _version(case: Case) -> str:
    return f"{check_new(case.repository, may_be_tagged=True)}, in every packages/*/pyproject.toml"


def _on_main(case: Case) -> str:
    refs = remote_refs(case.repository)
    main = refs.get("refs/heads/main")
    if main is None:
        raise ReleaseError(f"{REMOTE} has no branch main.")
    tags = {
        name.removeprefix("refs/tags/") for name in refs if name.startswith("refs/tags/") and not name.endswith("^{}")
    }
    try:
        ahead = case.repository.git("rev-list", "--max-count=1", "HEAD", f"^{main}").strip()
    except ReleaseError:
        ahead = "unknown"
    if ahead or not tags.issubset(case.repository.tags):
        raise ReleaseError(
            f"The commit is not on main of {REMOTE}, or main or tags of it are not known here: `git fetch --tags {REMOTE}`, "
            "then merge and push. A tag beside main is not published, and its version is used up all the same."
        )
    return f"main of {REMOTE} is at {main}, and has the commit; all {len(tags)} tags of it are known here"


def _evidence(case: Case) -> str:
    if missing := case.bundle.missing:
        raise ReleaseError(f"Steps that have not passed: {', '.join(missing)}. `release evidence` goes on with them.")
    return f"{len(case.bundle.entries)} steps of commit {case.bundle.commit}; bundle {case.bundle.digest}"


def _ci(case: Case) -> str:
    commit = case.repository.commit
    runs = read_json(case.ci) if case.ci else _ask_github(case.repository, commit)
    try:
        ours = [run for run in runs if run["headSha"] == commit and run["event"] in CI_PROVES]
        newest = {run["event"]: run for run in reversed(ours)}  # GitHub tells the newest first
        bad = [run for run in newest.values() if (run["status"], run["conclusion"]) != ("completed", "success")]
        is_pushed = "push" in newest and newest["push"]["headBranch"] == "main"
        shown = [str(run["url"]) for run in bad or newest.values()]
    except (KeyError, TypeError):
        raise ReleaseError(f"{case.ci} is not what `{CI_QUESTION} {commit}` prints.") from None
    if not is_pushed:
        raise ReleaseError(f"{CI_WORKFLOW} has not run on {commit} as pushed to main. Push it, and wait.")
    if bad:
        raise ReleaseError(f"{CI_WORKFLOW} has not passed on {commit}: {', '.join(shown)}")
    return ", ".join(shown)


def _ask_github(repository: Repository, commit: str) -> Any:
    gh = shutil.which("gh")
    if gh is None:
        raise NeedsOutsideError(
            f"GitHub cannot be asked: there is no `gh` here. Give its answer to `{CI_QUESTION} {commit}` with --ci FILE."
        )
    done = subprocess.run(
        [gh, *CI_QUESTION.split()[1:], commit], cwd=repository.root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NeedsOutsideError(f"GitHub cannot be asked: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _baselines(case: Case) -> str:
    for mode, name in BASELINES.items():
        kept = case.step(f"baseline-{mode}").files[f"files/{Path(name).name}"]
        if sha256(case.repository.root / name) != kept:
            raise ReleaseError(f"{name} is not the file that the evidence captured: commit that one, or collect anew.")
    changes = changes_since_last_release(case.repository, case.against)
    if changes is None:
        return "Both files are in the evidence; there is no release before this one to compare with"
    if worse := [change for change in changes if change.is_regression]:
        told = ", ".join(f"{change.figure.mode} {change.figure.name} x {change.ratio:.2f}" for change in worse)
        raise ReleaseError(f"Worse than the thresholds allow: {told}. Write it down in changes/ and mend it.")
    return "; ".join(f"{change.figure.mode} {change.figure.name} x {change.ratio:.2f}" for change in changes)


def _docs(case: Case) -> str:
    if stale := stale_pages(case.repository):
        raise ReleaseError(f"{' and '.join(stale)} are out of date: `release docs`, then commit.")
    return case.shown("docs")


def _notes(case: Case) -> str:
    notes = case.bundle.folder / NOTES
    if NOTES not in case.bundle.digests:
        raise ReleaseError(f"{notes} is missing: `release evidence` writes it after its last step.")
    text = notes.read_text(encoding="utf-8")
    if missing := [name for name in SECTIONS if f"## {name}\n" not in text]:
        raise ReleaseError(f"{notes} lacks {', '.join(missing)}: run `release evidence` again.")
    version = case.repository.version
    if changelog.section(case.repository, version) is None:
        raise ReleaseError(f"{changelog.CHANGELOG} has no section for {version}: `uv run towncrier build --yes`.")
    return f"{NOTES} in the bundle, with {', '.join(SECTIONS)}; {changelog.CHANGELOG} has {version}"


PROOFS: Mapping[str, Callable[[Case], str]] = {
    "clean-tree": _clean_tree,
    "version": _version,
    "main": _on_main,
    "evidence": _evidence,
    "check-release": lambda case: case.shown("check-release"),
    "ci": _ci,
    "reproducible": lambda case: case.shown("reproduce"),
    "smoke": lambda case: case.shown("wheel-import", "smoke"),
    "baselines": _baselines,
    "docs": _docs,
    "notes": _notes,
}
