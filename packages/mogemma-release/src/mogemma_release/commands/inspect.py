"""`release inspect`: is what was built what a release publishes?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..artifacts.checks import as_text
from ..artifacts.inspect import inspect as inspect_folder
from ..artifacts.inspect import inspect_files
from ..matrix import Platform
from ..repository import Repository
from .build import platform_option
from .frame import Outcome, release_command


@release_command
@click.argument("dist", type=click.Path(path_type=Path), nargs=-1)
@platform_option("Expect a wheel for this platform only in a folder; can be given more than once.")
def inspect(repository: Repository, dist: tuple[Path, ...], platforms: tuple[Platform, ...]) -> Outcome:
    """Check the sdist and the wheels in DIST: files, tags, metadata, licences, SBOM, kernels, and what twine,
    auditwheel, check-wheel-contents and pydistcheck say of them. DIST is a folder, where every artifact must be, or
    artifacts, which are checked alone. [default: dist in the repository]
    """
    folder, *others = dist or (repository.root / "dist",)
    if others or folder.is_file():
        checks = list(inspect_files(repository, dist))
    else:
        checks = list(inspect_folder(repository, folder, platforms))
    n_failed = sum(check.passed is False for check in checks)
    n_passed = sum(check.passed is True for check in checks)
    count = f"{n_passed} checks passed, {n_failed} failed, {len(checks) - n_passed - n_failed} were not run."
    return Outcome(f"{as_text(checks)}\n{count}", {"checks": [asdict(check) for check in checks]}, ok=not n_failed)
