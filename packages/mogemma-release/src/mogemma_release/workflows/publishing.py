"""The workflow that publishes, held to the definition and to the order in which it may do things."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..cli import COMMANDS
from ..matrix import DRY_RUN_ENVIRONMENT, ENVIRONMENT, JOBS, PLATFORMS, PYTHONS, SKIPPED, TAGS
from .workflow import Workflow, differs, does, jobs_differ

SOURCE, WHEELS, RELEASE = JOBS

STARTS = {"push": {"tags": [TAGS]}, "workflow_dispatch": None}
CONCURRENCY = {"group": "publish-${{ github.ref }}", "cancel-in-progress": False}
EMULATED = frozenset({"linux-aarch64"})
"""Platforms of which GitHub's runner is another machine, and cannot run their programs by itself."""
UNTRIED = frozenset({"macos-x86_64"})
"""Platforms of which GitHub's runner can import the kernels, and not run them."""

IF_FINAL = "${{ env.PUBLISH == 'true' }}"

JOBS_HAVE: Mapping[str, Mapping[str, Any]] = {
    SOURCE: {
        "if": None,
        "needs": None,
        "permissions": {"actions": "read", "contents": "read"},
        "outputs": {"publish": "${{ steps.gate.outputs.publish }}"},
    },
    WHEELS: {
        "if": None,
        "needs": [SOURCE],
        "permissions": {"contents": "read"},
        "runs-on": "${{ matrix.os }}",
    },
    RELEASE: {
        "if": None,
        "needs": [SOURCE, WHEELS],
        "permissions": {"actions": "read", "contents": "write", "id-token": "write"},
        "environment": "${{ needs.build-source.outputs.publish == 'true' && "
        f"'{ENVIRONMENT}' || '{DRY_RUN_ENVIRONMENT}' }}}}",
        "env": {"PUBLISH": "${{ needs.build-source.outputs.publish }}", "GH_REPO": "${{ github.repository }}"},
    },
}

USES = ("actions/download-artifact", "actions/download-artifact", "pypa/gh-action-pypi-publish")
"""All that the job that publishes uses: no checkout, so no code of the repository runs in it."""

STEPS_HAVE: tuple[tuple[str, str, str, Mapping[str, Any]], ...] = (
    (SOURCE, "actions/checkout", "with", {"fetch-depth": 0, "persist-credentials": False}),
    (WHEELS, "import mogemma", "env", {"PLATFORM": "${{ matrix.python }}", "KERNELS": "${{ matrix.kernels }}"}),
    (RELEASE, "pypi-publish", "with", {"packages-dir": "dist", "attestations": True, "print-hash": True}),
)
"""In that job, a step that does the one has exactly these options."""

RUNS_IF = (
    (SOURCE, "gh run list", "${{ steps.gate.outputs.publish == 'true' }}"),
    (WHEELS, "setup-qemu-action", "${{ matrix.qemu }}"),
    (WHEELS, "import mogemma", "${{ !matrix.qemu }}"),
    (RELEASE, "GITHUB_RUN_ATTEMPT", IF_FINAL),
    (RELEASE, "gh release", IF_FINAL),
    (RELEASE, "pypi-publish", IF_FINAL),
)
"""In that job, a step that does the one has the other for its condition. No other step has any."""

_SET_UP = ("actions/checkout", "astral-sh/setup-uv")
ORDER: Mapping[str, tuple[str, ...]] = {
    SOURCE: (
        *_SET_UP,
        *("GITHUB_REF_NAME", "release gate", "GITHUB_OUTPUT"),
        *("gh run list --workflow ci.yml", "--branch main --event push", "!= success", "exit 1"),
        *("make build-tools", "SOURCE_DATE_EPOCH="),
        *("uv build", "--build-constraints build/tools.txt", "--require-hashes"),
        *("release inspect", "mogemma doctor", "release notes", "shasum --algorithm 256"),
        *("actions/upload-artifact", "actions/upload-artifact"),
    ),
    WHEELS: (
        *_SET_UP,
        *("docker/setup-qemu-action", "make build-tools", "SOURCE_DATE_EPOCH=", "export SOURCE_DATE_EPOCH"),
        *("cibuildwheel packages/mogemma", "release inspect", "import mogemma", "mogemma doctor"),
        *("shasum --algorithm 256", "actions/upload-artifact"),
    ),
    RELEASE: (
        *("GITHUB_RUN_ATTEMPT", "exit 1", "actions/download-artifact", "actions/download-artifact"),
        *("sha256sum --check --strict", "exit 1", "gh release create", "pypi-publish", "gh release edit"),
    ),
}
"""What each job does at least, one after the other."""


def findings(workflow: Workflow) -> Iterator[str]:
    jobs = workflow.jobs
    yield from differs("the jobs are", tuple(jobs), JOBS)
    yield from differs("it starts", workflow.starts, STARTS)
    yield from differs("runs wait for each other by", workflow.document["concurrency"], CONCURRENCY)
    yield from differs("scripts run with", workflow.document["defaults"]["run"]["shell"], "bash")
    yield from differs("the Pythons are", tuple(workflow.document["env"]["PYTHONS"].split()), PYTHONS)
    yield from _in_wheels(jobs[WHEELS])
    for name, reason in SKIPPED.items():
        if f"# No {name}: {reason}\n" not in workflow.text:
            yield f"does not say beside the platforms: No {name}: {reason}"
    commands = {command.name for command in COMMANDS}
    for name in re.findall(r"--package mogemma-release release ([\w-]+)", workflow.text):
        if name not in commands:
            yield f"calls `release {name}`, which does not exist"
    yield from jobs_differ(jobs, JOBS_HAVE)
    actions = tuple(does(step) for step in jobs[RELEASE]["steps"] if "uses" in step)
    yield from differs(f"job {RELEASE} uses", actions, USES)
    for name, step in workflow.steps():
        yield from _in_step(name, step)
    for name, words in ORDER.items():
        yield from _in_order(name, "\n".join(does(step) for step in jobs[name]["steps"]), words)


def _in_wheels(job: Mapping[str, Any]) -> Iterator[str]:
    entries = job["strategy"]["matrix"]["include"]
    built = [tuple(entry.get(key) for key in ("platform", "os", "arch", "qemu", "kernels")) for entry in entries]
    wanted = [(p.name, p.runner, p.cibw_arch, p.name in EMULATED, p.name not in UNTRIED) for p in PLATFORMS]
    yield from differs("wheels are built for", built, wanted)


def _in_step(job: str, step: Mapping[str, Any]) -> Iterator[str]:
    done = does(step)
    name = step.get("name", done)
    conditions = [condition for where, word, condition in RUNS_IF if where == job and word in done]
    yield from differs(f"the step {name!r} runs if", step.get("if"), next(iter(conditions), None))
    for where, word, key, wanted in STEPS_HAVE:
        if where == job and word in done:
            yield from differs(f"the step {name!r} has {key}", step.get(key), wanted)


def _in_order(name: str, done: str, words: Sequence[str]) -> Iterator[str]:
    place, previous = 0, "its beginning"
    for word in words:
        found = done.find(word, place)
        if found < 0:
            yield f"job {name} has no {word!r} after {previous!r}"
        else:
            place, previous = found + len(word), word
