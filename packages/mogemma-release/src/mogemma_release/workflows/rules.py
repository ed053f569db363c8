"""What holds for every workflow of this repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .workflow import Workflow

JOB_HAS = ("name", "permissions", "timeout-minutes")

NEVER = {
    "secrets.": "needs a secret; the token of the run and trusted publishing are enough",
    "skip-existing": "takes a file that is already there for its own",
    "repository-url": "says where to upload, which the action knows",
    "continue-on-error": "lets a step fail",
}

STEP_HAS: Mapping[str, Mapping[str, Any]] = {
    "actions/checkout": {"persist-credentials": False},
    "actions/upload-artifact": {"retention-days": 1, "if-no-files-found": "error"},
}
"""Options that an action must have."""

_USES = re.compile(r"^\s*(?:- )?uses:\s*(\S+)(?:\s+#\s*(\S+))?", re.MULTILINE)
_PINNED = re.compile(r"[\w.-]+(?:/[\w.-]+)+@[0-9a-f]{40}")
_VERSION = re.compile(r"v\d+\.\d+\.\d+")


def findings(workflow: Workflow) -> Iterator[str]:
    if workflow.document.get("permissions") != {}:
        yield "permissions of the whole workflow are not {}: each job asks for its own"
    for name, job in workflow.jobs.items():
        yield from (f"job {name} has no {key}" for key in JOB_HAS if key not in job)
    for action, version in _USES.findall(workflow.text):
        name = action.partition("@")[0]
        if not _PINNED.fullmatch(action):
            yield f"{name} is not pinned by the hash of a commit"
        if not _VERSION.fullmatch(version):
            yield f"{name} has no comment that says its version"
    yield from (f"{word} {what}" for word, what in NEVER.items() if word in workflow.text)
    for job, step in workflow.steps():
        action = step.get("uses", "").partition("@")[0]
        for option, value in STEP_HAS.get(action, {}).items():
            if (found := step.get("with", {}).get(option)) != value:
                yield f"job {job} uses {action} with {option} {found}, not {value}"
