"""What every change passes, held to the definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..matrix import CI_JOBS, PLATFORMS, PYTHONS
from .workflow import Workflow, differs

RUNNERS = tuple(dict.fromkeys(platform.runner for platform in PLATFORMS))
BY_HAND = "${{ github.event_name == 'workflow_dispatch' }}"


def findings(workflow: Workflow) -> Iterator[str]:
    jobs = workflow.jobs
    yield from differs("the jobs are", tuple(jobs), CI_JOBS)
    tests = jobs["test"]["strategy"]["matrix"]
    yield from differs("tests run on", tuple(tests["os"]), RUNNERS)
    yield from differs("tests run with Python", tuple(tests["python"]), PYTHONS)
    yield from differs("builds run on", tuple(jobs["build"]["strategy"]["matrix"]["os"]), RUNNERS)
    yield from differs("wheels are tried with Python", _pythons(jobs["build"]), PYTHONS)
    yield from differs("lint runs", _commands(jobs["lint"]), ["make lint check"])
    yield from differs("check-release runs", _commands(jobs["check-release"]), ["make check-release"])
    yield from differs("check-release runs if", jobs["check-release"].get("if"), BY_HAND)


def _commands(job: Mapping[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def _pythons(job: Mapping[str, Any]) -> tuple[str, ...]:
    """The versions that a job sets up, in order; the last one that it names is only its default."""
    named = [step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})]
    versions = [version for names in named for version in str(names).split()]
    return tuple(sorted(versions, key=lambda version: [int(part) for part in version.split(".")]))
