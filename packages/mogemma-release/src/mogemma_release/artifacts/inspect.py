"""Is what was built what a release publishes: every artifact, and nothing else, each as it must be?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ReleaseError
from ..matrix import PLATFORMS, Platform
from ..repository import Repository
from . import others, sdist, wheel
from .archives import read_sdist, read_wheel
from .build import SUMS, artifacts_in, sums_of
from .checks import Check, made
from .recipe import Recipe
from .sdist import Sdist
from .wheel import Wheel


def inspect(repository: Repository, folder: Path, platforms: Sequence[Platform] = PLATFORMS) -> Iterator[Check]:
    """Every check of the artifacts in a folder.

    Raises:
        ReleaseError: There are none.
    """
    if not artifacts_in(folder):
        raise ReleaseError(f"{folder} holds no sdist and no wheel. `make wheels` builds them.")
    recipe = Recipe.of(repository)
    yield _expected_files(recipe, folder, platforms)
    yield _sums(folder)
    names = [*(recipe.wheel_name(platform) for platform in platforms), recipe.sdist_name]
    for file in (folder / name for name in names):
        if file.is_file():
            yield from _artifact(file, recipe)


def inspect_files(repository: Repository, files: Sequence[Path]) -> Iterator[Check]:
    """Every check of artifacts that are not all there are, as where each platform builds its own.

    Raises:
        ReleaseError: A file is missing.
    """
    recipe = Recipe.of(repository)
    for file in files:
        if not file.is_file():
            raise ReleaseError(f"There is no file {file}.")
        yield from _artifact(file, recipe)


def _artifact(file: Path, recipe: Recipe) -> Iterator[Check]:
    platforms = {recipe.wheel_name(platform): platform for platform in PLATFORMS}
    if file.name in platforms:
        yield from _wheel(file, platforms[file.name], recipe)
    elif file.name == recipe.sdist_name:
        yield from _sdist(file, recipe)
    else:
        named = ", ".join([*platforms, recipe.sdist_name])
        yield Check(file.name, "is of this release", passed=False, detail=f"it publishes {named}")


def _expected_files(recipe: Recipe, folder: Path, platforms: Sequence[Platform]) -> Check:
    expected = {recipe.sdist_name, SUMS, *(recipe.wheel_name(platform) for platform in platforms)}
    found = {path.name for path in folder.iterdir()} - {".gitignore"}  # `uv build` leaves one
    wrong = [f"{name} is missing" for name in sorted(expected - found)]
    wrong += [f"{name} does not belong there" for name in sorted(found - expected)]
    return Check(folder.name, "every artifact, and nothing else", not wrong, "; ".join(wrong))


def _sums(folder: Path) -> Check:
    try:
        agrees = (folder / SUMS).read_text(encoding="utf-8") == sums_of(folder)
    except (OSError, ValueError):
        agrees = False
    detail = "" if agrees else "it is missing, or digests of other files than these"
    return Check(folder.name, SUMS, agrees, detail)


def _wheel(file: Path, platform: Platform, recipe: Recipe) -> Iterator[Check]:
    try:
        subject = Wheel(read_wheel(file), platform, recipe)
    except ReleaseError as error:
        yield Check(file.name, "can be read", passed=False, detail=str(error))
        return
    yield from made(file.name, wheel.CHECKS, subject)
    yield from made(file.name, others.WHEEL_CHECKS, subject)
    if platform.system == "linux":
        yield from made(file.name, others.LINUX_CHECKS, subject)


def _sdist(file: Path, recipe: Recipe) -> Iterator[Check]:
    try:
        subject = Sdist(read_sdist(file), recipe)
    except ReleaseError as error:
        yield Check(file.name, "can be read", passed=False, detail=str(error))
        return
    yield from made(file.name, sdist.CHECKS, subject)
    yield from made(file.name, others.SDIST_CHECKS, subject)
