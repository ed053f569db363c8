"""What every change passes, held to the definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..matrix import CI_JOBS, PLATFORMS, PYTHONS
from .workflow import Workflow, differs, does, jobs_differ

RUNNERS = tuple(dict.fromkeys(platform.runner for platform in PLATFORMS))
BY_HAND = "${{ github.event_name == 'workflow_dispatch' }}"

STARTS = {"push": {"branches": ["main"]}, "pull_request": None, "workflow_dispatch": None}
CONCURRENCY = {"group": "ci-${{ github.event.pull_request.number || github.run_id }}", "cancel-in-progress": True}

JOBS_HAVE: Mapping[str, Mapping[str, Any]] = {
    "lint": {"if": None},
    "test": {"if": None, "runs-on": "${{ matrix.os }}", "env": {"UV_PYTHON": "${{ matrix.python }}"}},
    "build": {"if": None, "runs-on": "${{ matrix.os }}"},
    "real-models": {"if": None},
    "check-release": {"if": BY_HAND},
}

_SET_UP = ("actions/checkout", "actions/setup-python")
JOBS_DO: Mapping[str, tuple[str, ...]] = {
    "lint": (*_SET_UP, "make lint check"),
    "test": (*_SET_UP, "make test"),
    "build": (
        *_SET_UP,
        "make smoke",
        "shasum --algorithm 256 -- *.whl *.tar.gz > SHA256SUMS",
        "actions/upload-artifact",
    ),
    "real-models": (*_SET_UP, "actions/cache", ".ci/run"),
    "check-release": (*_SET_UP, "make check-release"),
}
"""All steps of each job, in their order."""


def findings(workflow: Workflow) -> Iterator[str]:
    jobs = workflow.jobs
    yield from differs("it starts", workflow.starts, STARTS)
    yield from differs("runs replace each other by", workflow.document["concurrency"], CONCURRENCY)
    yield from differs("the jobs are", tuple(jobs), CI_JOBS)
    tests = jobs["test"]["strategy"]["matrix"]
    yield from differs("tests run on", tuple(tests["os"]), RUNNERS)
    yield from differs("tests run with Python", tuple(tests["python"]), PYTHONS)
    yield from differs("builds run on", tuple(jobs["build"]["strategy"]["matrix"]["os"]), RUNNERS)
    yield from differs("wheels are tried with Python", _pythons(jobs["build"]), PYTHONS)
    yield from jobs_differ(jobs, JOBS_HAVE)
    for name, job in jobs.items():
        yield from differs(f"job {name} does", tuple(does(step) for step in job["steps"]), JOBS_DO.get(name))
    for name, step in workflow.steps():
        yield from differs(f"a step of job {name} runs if", step.get("if"), None)


def _pythons(job: Mapping[str, Any]) -> tuple[str, ...]:
    """The versions that a job sets up, in order; the last one that it names is only its default."""
    named = [step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})]
    versions = [version for names in named for version in str(names).split()]
    return tuple(sorted(versions, key=lambda version: [int(part) for part in version.split(".")]))
