"""A check is a function that yields what is wrong, a sentence each; none means that it passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

Subject = TypeVar("Subject")
Checks = Mapping[str, Callable[[Subject], Iterable[str]]]


class NotHereError(Exception):
    """A check cannot be made on this machine; the message says why."""


@dataclass(frozen=True)
class Check:
    """How a check went.

    Attributes:
        artifact: Name of the file that was looked at, or of the folder.
        passed: None where it cannot be made on this machine.
        detail: What is wrong, or why it was not made.
    """

    artifact: str
    name: str
    passed: bool | None
    detail: str = ""

    def __str__(self) -> str:
        state = {True: "ok", False: "FAILED", None: "not run"}[self.passed]
        return f"{state:8}{self.name}" + (f": {self.detail}" if self.detail else "")


def as_text(checks: Iterable[Check]) -> str:
    """The checks of each artifact under its name."""
    lines: list[str] = []
    for artifact, group in groupby(checks, key=lambda check: check.artifact):
        lines += [artifact, *(f"  {check}" for check in group)]
    return "\n".join(lines)


def made(artifact: str, checks: Checks[Subject], subject: Subject) -> Iterator[Check]:
    """The results of checks, by name, on one thing."""
    for name, check in checks.items():
        yield _made(artifact, name, check, subject)


def _made(artifact: str, name: str, check: Callable[[Subject], Iterable[str]], subject: Subject) -> Check:
    try:
        wrong = list(check(subject))
    except NotHereError as reason:
        return Check(artifact, name, None, str(reason))
    return Check(artifact, name, not wrong, "; ".join(wrong))
