"""The workflow that publishes, held to the definition and to the order in which it may do things."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..cli import COMMANDS
from ..matrix import JOBS, PLATFORMS, PYTHONS, SKIPPED
from .workflow import Workflow, differs, does

SOURCE, WHEELS, RELEASE = JOBS

STARTS = {"push": {"tags": ["v*"]}, "workflow_dispatch": None}
EMULATED = frozenset({"linux-aarch64"})
"""Platforms of which GitHub's runner is another machine, and cannot run their programs by itself."""

MAY = {"actions": "read", "contents": "write", "id-token": "write"}
"""Permissions of the job that publishes."""

USES = ("actions/download-artifact", "actions/download-artifact", "pypa/gh-action-pypi-publish")
"""All that the job that publishes uses: no checkout, so no code of the repository runs in it."""

IS_FINAL = "${{ needs.build-source.outputs.publish }}"
IF_FINAL = "${{ env.PUBLISH == 'true' }}"
FINAL_ONLY = ("GITHUB_RUN_ATTEMPT", "gh release", "pypi-publish")
"""What a dry run leaves out."""

ORDER = (
    (SOURCE, "release gate", "uv build"),
    (SOURCE, "uv build", "release inspect"),
    (SOURCE, "release inspect", "mogemma doctor"),
    (SOURCE, "mogemma doctor", "actions/upload-artifact"),
    (WHEELS, "cibuildwheel", "release inspect"),
    (WHEELS, "release inspect", "import mogemma"),
    (WHEELS, "import mogemma", "actions/upload-artifact"),
    (RELEASE, "GITHUB_RUN_ATTEMPT", "actions/download-artifact"),
    (RELEASE, "sha256sum --check", "gh release create"),
    (RELEASE, "gh release create", "pypi-publish"),
    (RELEASE, "pypi-publish", "gh release edit"),
)
"""In that job, the one comes before the other."""


def findings(workflow: Workflow) -> Iterator[str]:
    jobs = workflow.jobs
    yield from differs("the jobs are", tuple(jobs), JOBS)
    yield from differs("it starts", workflow.starts, STARTS)
    yield from differs("a newer run ends this one:", workflow.document["concurrency"]["cancel-in-progress"], False)
    yield from differs("the Pythons are", tuple(workflow.document["env"]["PYTHONS"].split()), PYTHONS)
    yield from _in_wheels(jobs[WHEELS])
    for name, reason in SKIPPED.items():
        if f"# No {name}: {reason}\n" not in workflow.text:
            yield f"does not say beside the platforms: No {name}: {reason}"
    commands = {command.name for command in COMMANDS}
    for name in re.findall(r"--package mogemma-release release ([\w-]+)", workflow.text):
        if name not in commands:
            yield f"calls `release {name}`, which does not exist"
    yield from _in_release(jobs[RELEASE])
    yield from _in_order(jobs)


def _in_wheels(job: Mapping[str, Any]) -> Iterator[str]:
    entries = job["strategy"]["matrix"]["include"]
    built = [(entry["platform"], entry["os"], entry["arch"], entry["qemu"]) for entry in entries]
    wanted = [(each.name, each.runner, each.cibw_arch, each.name in EMULATED) for each in PLATFORMS]
    yield from differs("wheels are built for", built, wanted)
    yield from differs("wheels are built on", job["runs-on"], "${{ matrix.os }}")


def _in_release(job: Mapping[str, Any]) -> Iterator[str]:
    yield from differs(f"{RELEASE} waits for", tuple(job["needs"]), (SOURCE, WHEELS))
    yield from differs(f"{RELEASE} may", job["permissions"], MAY)
    actions = tuple(step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step)
    yield from differs(f"{RELEASE} uses", actions, USES)
    yield from differs("a release is final by", job["env"]["PUBLISH"], IS_FINAL)
    for step in job["steps"]:
        if any(does(step, word) for word in FINAL_ONLY):
            yield from differs(f"the step {step['name']!r} runs if", step.get("if"), IF_FINAL)
        if does(step, "pypi-publish"):
            yield from differs("attestations are", step["with"].get("attestations"), True)


def _in_order(jobs: Mapping[str, Any]) -> Iterator[str]:
    for name, before, after in ORDER:
        steps = jobs[name]["steps"]
        places = [[place for place, step in enumerate(steps) if does(step, word)] for word in (before, after)]
        first, then = places
        if not first or not then or first[0] >= then[0]:
            yield f"job {name} does not have {before!r} before {after!r}"
