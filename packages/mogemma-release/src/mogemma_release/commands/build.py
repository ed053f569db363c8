"""`release build`: the sdist and the wheels, from the commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..artifacts.build import SUMS, artifacts_in, build_artifacts
from ..files import sha256
from ..matrix import PLATFORMS, Platform
from ..repository import Repository
from .frame import Outcome, release_command


def platform_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--platform NAME`, any number of times; the command gets the platforms, all of them without the option."""

    def chosen(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[Platform, ...]:
        return tuple(platform for platform in PLATFORMS if not names or platform.name in names)

    names = click.Choice([platform.name for platform in PLATFORMS])
    return click.option("--platform", "platforms", type=names, multiple=True, callback=chosen, help=help_text)


@release_command
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to fill, replaced as a whole. [default: dist in the repository]",
)
@platform_option("A wheel for this platform only; can be given more than once.")
def build(repository: Repository, out: Path | None, platforms: tuple[Platform, ...]) -> Outcome:
    """Build the sdist and a wheel for every platform from the commit, and SHA256SUMS."""
    folder = out or repository.root / "dist"
    build_artifacts(repository, folder, platforms, report=lambda line: click.echo(line, err=True))
    lines = [f"{sha256(file)}  {file.stat().st_size:9,} B  {file.name}" for file in artifacts_in(folder)]
    if changes := repository.changes:
        lines.append(f"Built from the commit: {len(changes)} changed paths are not in it ({changes[0]}, ...).")
    digests = {file.name: sha256(file) for file in artifacts_in(folder)}
    data = {"commit": repository.commit, "folder": str(folder), "sha256": digests, "left_out": list(changes)}
    return Outcome("\n".join([*lines, f"{SUMS} in {folder} lists them."]), data)
