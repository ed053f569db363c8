"""A workflow as it is read here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Workflow:
    """A workflow as text, for its comments, and as YAML, where 3.10 without quotes is 3.1, as it is for GitHub."""

    text: str
    document: Mapping[Any, Any]

    @staticmethod
    def read(file: Path) -> Workflow:
        """The workflow in a file.

        Raises:
            OSError, yaml.YAMLError: It is not there, or no YAML.
        """
        text = file.read_text(encoding="utf-8")
        return Workflow(text, yaml.safe_load(text))

    @property
    def starts(self) -> Any:
        """What starts it."""
        return self.document[True]  # which YAML 1.1 takes the key `on` for

    @property
    def jobs(self) -> Mapping[str, Any]:
        jobs: Mapping[str, Any] = self.document["jobs"]
        return jobs

    def steps(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each step, after its job's name."""
        for name, job in self.jobs.items():
            yield from ((name, step) for step in job["steps"])


def does(step: Mapping[str, Any]) -> str:
    """What a step does: its script without comments, or the name of its action."""
    script = re.sub(r"^\s*#.*\n?", "", step.get("run", ""), flags=re.MULTILINE)
    return script.strip() or step.get("uses", "").partition("@")[0]


def differs(what: str, found: object, wanted: object) -> Iterator[str]:
    """A finding where two things are not the same."""
    if found != wanted:
        yield f"{what} {found}, not {wanted}"


def jobs_differ(jobs: Mapping[str, Any], wanted: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A finding for each key of a job that is not as it is wanted; None wants that there is none."""
    for name, keys in wanted.items():
        for key, value in keys.items():
            yield from differs(f"job {name} has {key}", jobs.get(name, {}).get(key), value)
