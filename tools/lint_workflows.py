"""Hold GitHub's workflows to actionlint, with shellcheck for their scripts, and to zizmor at its strictest.

    python tools/lint_workflows.py [REPOSITORY]

Nothing is fetched: the linters are in wheels, and zizmor asks nobody. Both run, whatever the first one finds; the exit
status is 1 if either finds anything.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ACTIONLINT = ("-no-color", "-pyflakes=")
ZIZMOR = (
    *("--offline", "--no-config", "--no-ignores", "--persona=auditor", "--strict-collection"),
    *("--no-progress", "--quiet", "--color=never"),
)


def program(name: str) -> str:
    """The path of a linter in the environment that this runs in.

    Raises:
        FileNotFoundError: It is not installed.
    """
    path = Path(sysconfig.get_path("scripts"), name)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `make install`")
    return str(path)


def shellcheck() -> str:
    """The path of shellcheck; nothing where it has no wheel, since actionlint would then leave it out without a word."""
    try:
        return program("shellcheck")
    except FileNotFoundError:
        print(
            "note: shellcheck has no wheel for this machine, so the workflows' scripts are not checked", file=sys.stderr
        )
        return ""


def main(arguments: Sequence[str]) -> int:
    repository = Path(arguments[0] if arguments else ".").resolve()
    files = [str(file) for file in sorted(repository.glob(".github/workflows/*.y*ml"))]
    if not files:
        print(f"{repository} has no workflow in .github/workflows", file=sys.stderr)
        return 2
    linters = (
        [program("actionlint"), *ACTIONLINT, f"-shellcheck={shellcheck()}", *files],
        [program("zizmor"), *ZIZMOR, *files],
    )
    statuses = [subprocess.run(linter, cwd=repository, check=False).returncode for linter in linters]
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
