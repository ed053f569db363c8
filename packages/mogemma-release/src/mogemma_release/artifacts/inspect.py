"""Is what lies in a folder what a release publishes: every artifact, and nothing else, each as it must be?"""

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
    for platform in platforms:
        file = folder / recipe.wheel_name(platform)
        if file.is_file():
            yield from _wheel(file, platform, recipe)
    if (folder / recipe.sdist_name).is_file():
        yield from _sdist(folder / recipe.sdist_name, recipe)


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
