"""The evidence of a release: a folder that says what was run, when, on what, and how it went, and that shows tampering.

    evidence/<version>/
    ├── bundle.json      commit, what differs from it, machine, tools; each step's command, start, end, duration and exit
    │                    status; every digest
    ├── logs/            what each step printed
    ├── files/           what the steps keep: baselines, checksums, pages
    ├── plots/           the baselines' samples, round by round
    ├── notes.md         the page for the release notes
    └── SHA256SUMS       of all the others, for `sha256sum --check`
    evidence/.lock       held while `release evidence` runs

A step's entry is written when the step has ended, so an interrupted one has none and runs again. Before a file is replaced,
bundle.json forgets the old one: wherever a full disk or a lost machine cuts in, what it names is there as it says.

bundle.json holds the digest of every file and of itself; a tag names that one, so that afterwards nothing can be exchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import ReleaseError
from .files import move_whole, read_json, sha256, write_json, write_whole
from .process import Ran, run
from .repository import Repository
from .runbook import EVIDENCE, RECORDS, Step

SCHEMA = 2
CHECKSUMS = "SHA256SUMS"
MAX_AGE_DAYS = 14
"""Older evidence was made with tools and packages that have moved since."""

_ANEW = "Collect it anew: `release evidence --fresh`."
_TOOLS = ("uv", "git")
_PACKAGES = ("mojo-compiler", "ruff", "mypy", "pyright", "pytest", "numpy", "cffi", "setuptools")


@dataclass(frozen=True)
class Entry:
    """A step that has run.

    Attributes:
        started, ended: UTC, ISO 8601.
        log: Path in the bundle.
        files: Path in the bundle of each file that the step keeps, with its SHA-256; the log's is among them.
    """

    step: str
    command: str
    started: str
    ended: str
    seconds: float
    exit_status: int
    timed_out: bool
    log: str
    files: dict[str, str]

    @property
    def passed(self) -> bool:
        return self.exit_status == 0 and not self.timed_out


class Bundle:
    """The evidence of one version, on disk."""

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        entries: Sequence[Entry] = (),
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.about = about
        self._entries = {entry.step: entry for entry in entries}
        self._files = dict(files or {})

    @staticmethod
    def folder_of(repository: Repository) -> Path:
        return repository.root / "evidence" / repository.version

    @staticmethod
    def begin(repository: Repository) -> Bundle:
        """A new bundle for the current commit.

        Raises:
            ReleaseError: The tree has changes, or there is evidence already.
        """
        check_tree(repository)
        folder = Bundle.folder_of(repository)
        if _is_begun(folder):
            raise ReleaseError(f"{folder} exists. Resume it, or set it aside with --fresh.")
        about = {
            "schema": SCHEMA,
            "version": repository.version,
            "commit": repository.commit,
            "changes": list(repository.changes),
            "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": _machine(),
            "tools": _tools(),
        }
        bundle = Bundle(folder, about)
        bundle.write()
        return bundle

    @staticmethod
    def resume(repository: Repository) -> Bundle:
        """The bundle of the current commit to go on with, begun if there is none.

        Raises:
            ReleaseError: There is one that cannot be read, or is of another commit.
        """
        folder = Bundle.folder_of(repository)
        if not _is_begun(folder):
            return Bundle.begin(repository)
        if not (folder / "bundle.json").exists():
            raise ReleaseError(f"{folder} has files of a run, but its bundle.json is missing. {_ANEW}")
        bundle = Bundle.read(folder)
        bundle.check_current(repository)
        bundle.write()  # SHA256SUMS, should the last run have been cut off before it
        return bundle

    @staticmethod
    def read(folder: Path) -> Bundle:
        """The bundle in a folder, every file of it held to its digest.

        Raises:
            ReleaseError: It is missing or damaged, or a file is missing or was changed.
        """
        file = folder / "bundle.json"
        if not file.exists():
            raise ReleaseError(f"There is no evidence in {folder}. Run `release evidence`.")
        value = read_json(file)
        try:
            told = value.pop("digest")
            if value["schema"] != SCHEMA:
                raise ReleaseError(f"{file} has schema {value['schema']!r}, not {SCHEMA}. {_ANEW}")
            is_whole = told == _digest(value)
            entries = [Entry(**entry) for entry in value.pop("steps")]
            bundle = Bundle(folder, value, entries, value.pop("files"))
        except (KeyError, TypeError, AttributeError):
            raise ReleaseError(f"{file} is damaged. {_ANEW}") from None
        if not is_whole:
            raise ReleaseError(f"{file} was changed after it was recorded. {_ANEW}")
        for name, digest in bundle.digests.items():
            if not (folder / name).is_file():
                raise ReleaseError(f"{folder / name} is missing: the evidence is incomplete. {_ANEW}")
            if sha256(folder / name) != digest:
                raise ReleaseError(f"{folder / name} was changed after it was recorded. {_ANEW}")
        return bundle

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every file but bundle.json, by its path in the bundle."""
        steps = (entry.files.items() for entry in self.entries)
        return dict(sorted({*self._files.items(), *(pair for pairs in steps for pair in pairs)}))

    @property
    def digest(self) -> str:
        """SHA-256 of all that bundle.json says: one number for the whole bundle."""
        return _digest(self._value())

    @property
    def commit(self) -> str:
        return str(self.about["commit"])

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Steps that have run, in order."""
        return tuple(self._entries.values())

    def entry(self, step: str) -> Entry | None:
        return self._entries.get(step)

    @property
    def missing(self) -> tuple[str, ...]:
        """Steps that have not passed."""
        return tuple(s.name for s in EVIDENCE if not ((entry := self.entry(s.name)) and entry.passed))

    def check_sums(self) -> None:
        """Hold SHA256SUMS to the digests.

        Raises:
            ReleaseError: It is missing, or says something else.
        """
        file = self.folder / CHECKSUMS
        if not file.exists() or file.read_text(encoding="utf-8") != self._sums():
            raise ReleaseError(f"{file} does not list what bundle.json does. `release evidence` writes it again.")

    def check_current(self, repository: Repository) -> None:
        """Hold the evidence to the current commit.

        Raises:
            ReleaseError: It is of another commit, or too old.
        """
        if self.commit != repository.commit:
            changed = repository.changed_between(self.commit, "HEAD")
            if others := [name for name in changed if name not in RECORDS]:
                raise ReleaseError(
                    f"The evidence is of commit {self.commit[:12]}, this is {repository.commit[:12]}, and they differ in "
                    f"{_some(others)}. Collect it for this one: `release evidence --fresh`."
                )
        age = datetime.now(timezone.utc) - datetime.fromisoformat(self.about["begun"])
        if age.days >= MAX_AGE_DAYS:
            raise ReleaseError(
                f"The evidence is {age.days} days old, {MAX_AGE_DAYS} are allowed: `release evidence --fresh`."
            )

    def record(self, step: Step, ran: Ran, printed: Path, log: Path, root: Path) -> Entry:
        """Enter a step that has ended: what it printed becomes its log, and what it keeps is copied."""
        if self._entries.pop(step.name, None):
            self.write()
        move_whole(printed, log)
        kept = [log]
        if ran.passed:
            for name in step.keeps:
                copy = self.folder / "files" / Path(name).name
                write_whole(copy, (root / name).read_bytes())
                kept.append(copy)
        entry = Entry(
            step=step.name,
            command=step.typed,
            started=ran.started.isoformat(timespec="seconds"),
            ended=ran.ended.isoformat(timespec="seconds"),
            seconds=round(ran.seconds, 3),
            exit_status=ran.exit_status,
            timed_out=ran.timed_out,
            log=log.relative_to(self.folder).as_posix(),
            files={file.relative_to(self.folder).as_posix(): sha256(file) for file in kept},
        )
        self._entries[step.name] = entry
        self.write()
        return entry

    def add(self, name: str, content: str | bytes) -> None:
        """Put a file of the bundle's own beside the steps'."""
        if self._files.pop(name, None):
            self.write()
        write_whole(self.folder / name, content)
        self._files[name] = sha256(self.folder / name)
        self.write()

    def write(self) -> None:
        """Bring bundle.json and SHA256SUMS up to date."""
        value = self._value()
        write_json(self.folder / "bundle.json", {**value, "digest": _digest(value)})
        write_whole(self.folder / CHECKSUMS, self._sums())

    def _value(self) -> dict[str, Any]:
        return {**self.about, "steps": [asdict(entry) for entry in self.entries], "files": self._files}

    def _sums(self) -> str:
        digests = {"bundle.json": sha256(self.folder / "bundle.json"), **self.digests}
        return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def check_tree(repository: Repository) -> None:
    """Refuse a tree with other changes than those that evidence makes.

    Raises:
        ReleaseError: It has some.
    """
    if others := [name for name in repository.changes if name not in RECORDS]:
        raise ReleaseError(f"The tree has changes ({_some(others)}). Commit them or put them away first.")


def set_aside(repository: Repository) -> Path | None:
    """Rename a bundle, so that a new one can begin; nothing is deleted. None when there is none."""
    folder = Bundle.folder_of(repository)
    if not folder.exists():
        return None
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    aside = folder.with_name(f"{folder.name}-before-{stamp}")
    folder.rename(aside)
    return aside


def collect(
    bundle: Bundle,
    repository: Repository,
    *,
    begins: Callable[[Step], None] = lambda _: None,
    listen: Callable[[str], None] = lambda _: None,
    ends: Callable[[Entry], None] = lambda _: None,
) -> Entry | None:
    """Run the steps that have not passed yet, in order, until one fails: that one's entry, else None.

    Raises:
        ReleaseError: The tree changed meanwhile, or something cannot be written.
        KeyboardInterrupt: Between or in a step, which is then as if it had not begun.
    """
    for number, step in enumerate(EVIDENCE, 1):
        entry = bundle.entry(step.name)
        if entry and entry.passed:
            continue
        check_tree(repository)
        begins(step)
        entry = _run_step(bundle, repository, step, number, listen)
        ends(entry)
        if not entry.passed:
            return entry
    return None


def _run_step(bundle: Bundle, repository: Repository, step: Step, number: int, listen: Callable[[str], None]) -> Entry:
    log = bundle.folder / "logs" / f"{number:02}-{step.name}.log"
    # Beside the folders that are recorded: nothing unfinished is ever in the bundle.
    unfinished = bundle.folder.with_name(f".{bundle.folder.name}-running")
    output = unfinished.with_name(f"{unfinished.name}-output") if step.output else None
    try:
        ran = run(
            ["bash", "-c", f"set -euo pipefail; {step.command}"],
            repository.root,
            unfinished,
            limit_seconds=step.limit_seconds,
            output=output,
            listen=listen,
        )
        if step.output and output and ran.passed:
            write_whole(repository.root / step.output, output.read_bytes())
        return bundle.record(step, ran, unfinished, log, repository.root)
    finally:
        for file in (unfinished, output):
            if file:
                file.unlink(missing_ok=True)


def _is_begun(folder: Path) -> bool:
    """False too where a full disk or a kill stopped the first write of bundle.json."""
    return folder.exists() and any(not file.name.startswith(".") for file in folder.iterdir())


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _tools() -> dict[str, str]:
    """Version of every tool that takes part: programs by themselves, packages as the lock file has brought them."""
    found = {}
    for name in _TOOLS:
        if program := shutil.which(name):
            told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            found[name] = told.strip().removeprefix(f"{name} ").removeprefix("version ")
    installed = {package.name: package.version for package in metadata.distributions()}
    return {**found, **{name: installed[name] for name in _PACKAGES if name in installed}}
