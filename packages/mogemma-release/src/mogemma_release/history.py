"""The baselines of the release before this one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from .errors import ReleaseError
from .measurements import NOISE, Baseline, Change, Noise, compare
from .repository import Repository
from .runbook import BASELINES
from .versions import previous_tag


def changes_since_last_release(repository: Repository, against: str | None = None) -> list[Change] | None:
    """Every figure now and in the last release; None when there is none.

    `against` is another commit or tag, or a folder with baseline files.

    Raises:
        ReleaseError: A file is missing or damaged, or the machines differ.
    """
    source = against or previous_tag(repository)
    if source is None:
        return None
    noise = Noise.read(repository.root / NOISE)
    pairs = zip(_before(repository, source), BASELINES.values(), strict=True)
    return [
        change for before, name in pairs for change in compare(before, Baseline.read(repository.root / name), noise)
    ]


def _before(repository: Repository, source: str) -> Iterator[Baseline]:
    folder = Path(source)
    for name in BASELINES.values():
        if folder.is_dir():
            yield Baseline.read(folder / Path(name).name)
            continue
        try:
            text = repository.git("show", f"{source}:{name}")
        except ReleaseError:
            raise ReleaseError(f"{source} is no folder with baselines, and no commit that has {name}.") from None
        try:
            yield Baseline(json.loads(text), f"{name} of {source}")
        except ValueError:
            raise ReleaseError(f"{name} of {source} is no JSON.") from None
