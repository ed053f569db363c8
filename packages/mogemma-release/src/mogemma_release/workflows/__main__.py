"""Check the workflows of a repository.

    python -m mogemma_release.workflows [REPOSITORY]

Prints a sentence for each thing that is wrong; the exit status is 1 if there is any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from ..matrix import CI_WORKFLOW, WORKFLOW
from . import ci, cibuildwheel, publishing, rules
from .workflow import Workflow

BUILD_CONFIGURATION = "packages/mogemma/pyproject.toml"

CHECKS: Mapping[str, Callable[[Workflow], Iterable[str]]] = {
    CI_WORKFLOW: ci.findings,
    WORKFLOW: publishing.findings,
}


def findings(root: Path) -> Iterator[str]:
    """What is wrong with the workflows of a repository, and with what they give to cibuildwheel."""
    for file, check in CHECKS.items():
        try:
            workflow = Workflow.read(root / file)
            found = [*rules.findings(workflow), *check(workflow)]
        except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
            found = [f"is not the workflow that is expected there: {type(error).__name__}: {error}"]
        yield from (f"{file}: {finding}" for finding in found)
    text = (root / BUILD_CONFIGURATION).read_text(encoding="utf-8")
    yield from (f"{BUILD_CONFIGURATION}: {finding}" for finding in cibuildwheel.findings(text))


def main(arguments: Sequence[str]) -> int:
    found = list(findings(Path(arguments[0] if arguments else ".")))
    print(*found, sep="\n", end="\n" if found else "")  # noqa: T201 (a command prints)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
