"""The repository that is released, as git and its own files tell."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from .errors import ReleaseError
from .runbook import RECORDS

_VERSION_LINE = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Repository:
    root: Path

    @staticmethod
    def find(folder: Path) -> Repository:
        """The clone of mogemma that a folder is in.

        Raises:
            ReleaseError: It is in none, or git is not there.
        """
        top = _git(folder, "rev-parse", "--show-toplevel").strip()
        root = Path(top)
        if not (root / "packages" / "mogemma" / "pyproject.toml").is_file():
            raise ReleaseError(f"{root} is not mogemma's repository: it has no packages/mogemma. Use --root.")
        return Repository(root)

    def git(self, *arguments: str) -> str:
        """What git says to them.

        Raises:
            ReleaseError: It refuses; the message holds what it said.
        """
        return _git(self.root, *arguments)

    @property
    def commit(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    @property
    def commit_time(self) -> datetime:
        return datetime.fromtimestamp(self.source_date_epoch, timezone.utc)

    @property
    def source_date_epoch(self) -> int:
        """Seconds since 1970 that every build carries: when a commit last changed more than the records of evidence.

        The commit of the records comes after the artifacts that the evidence looked at. With its time, what is published
        would be other bytes than those.
        """
        others = (f":(top,exclude){name}" for name in RECORDS)
        return int(self.git("log", "-1", "--format=%ct", "--", ":/", *others))

    @property
    def changes(self) -> tuple[str, ...]:
        """Paths that differ from the commit, untracked ones included; ignored ones are not."""
        entries = self.git("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames").split("\0")
        return tuple(sorted(entry[3:] for entry in entries if entry))

    def changed_between(self, before: str, after: str) -> tuple[str, ...]:
        """Paths in which two commits differ."""
        return tuple(self.git("diff", "--name-only", "--no-renames", "-z", before, after).split("\0")[:-1])

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.git("tag", "--list").split())

    @cached_property
    def version(self) -> str:
        """The version that all packages share.

        Raises:
            ReleaseError: They do not.
        """
        found = {}
        for project in sorted(self.root.glob("packages/*/pyproject.toml")):
            match = _VERSION_LINE.search(project.read_text(encoding="utf-8"))
            found[project.parent.name] = match[1] if match else "none"
        if len(set(found.values())) != 1:
            told = ", ".join(f"{name} {version}" for name, version in found.items())
            raise ReleaseError(f"The packages have different versions ({told}). Run bump-my-version on a clean tree.")
        return next(iter(found.values()))


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, encoding="utf-8"
        )
    except FileNotFoundError:
        raise ReleaseError("git is not installed.") from None
    if done.returncode:
        raise ReleaseError(f"git {' '.join(arguments[:2])}: {done.stderr.strip() or 'failed'}")
    return done.stdout
