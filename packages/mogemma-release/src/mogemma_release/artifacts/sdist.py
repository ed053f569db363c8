"""What the sdist must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser

from .archives import Archive
from .checks import Checks
from .recipe import Recipe, differences
from .wheel import MOST_BYTES, metadata_problems


@dataclass(frozen=True)
class Sdist:
    """A sdist and what it should be."""

    archive: Archive
    recipe: Recipe

    @property
    def folder(self) -> str:
        return self.recipe.sdist_name.removesuffix(".tar.gz")


def size(sdist: Sdist) -> Iterator[str]:
    n_bytes = sdist.archive.file.stat().st_size
    if n_bytes > MOST_BYTES:
        yield f"{n_bytes:,} bytes, over {MOST_BYTES:,}"


def files(sdist: Sdist) -> Iterator[str]:
    """So what lies about in the builder's folder, unknown to git, did not get in."""
    expected = {f"{sdist.folder}/{name}": blob for name, blob in sdist.recipe.sdist_files().items()}
    yield from differences(sdist.archive.contents, expected)


def metadata(sdist: Sdist) -> Iterator[str]:
    told = Parser().parsestr(sdist.archive.text(f"{sdist.folder}/PKG-INFO"))
    yield from metadata_problems(told, sdist.recipe.version)


def times_and_modes(sdist: Sdist) -> Iterator[str]:
    if sdist.archive.times != {(sdist.recipe.epoch,)}:
        yield "entries do not carry the commit's time"
    if sdist.archive.modes != {"644 0:0 :"}:
        yield f"entries have the modes and owners {', '.join(sorted(sdist.archive.modes))}"


CHECKS: Checks[Sdist] = {
    "at most 2 MB": size,
    "files are the commit's, and all of them": files,
    "metadata and licences (PEP 639)": metadata,
    "the commit's time, plain modes, no owner": times_and_modes,
}
