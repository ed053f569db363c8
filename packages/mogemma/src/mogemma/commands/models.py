"""Which model a command runs, and what a person sees while it is brought here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mogemma

from ..errors import UnsupportedModelError
from ..hub.known import GENERATOR, licence_of
from .progress import Progress
from .streams import notice
from .table import size

if TYPE_CHECKING:
    from ..hub.pull import Plan
    from ..hub.source import HubSource


def chosen_model(name: str | None, default: str = GENERATOR) -> Path:
    """The path of the named model, else of the default one (a known name); it is downloaded where that is needed.

    Raises:
        ModelNotFoundError: There is none.
        DownloadError: It could not be downloaded.
    """
    from ..hub.locate import locate  # noqa: PLC0415  loads numpy

    with downloading() as watchers:
        return locate(name, default=default, tell=notice, **watchers).path


@contextmanager
def downloading() -> Iterator[dict[str, Any]]:
    """A bar for a download, and a line that says what comes from where: the arguments of `locate`."""
    with Progress("Downloading", in_bytes=True) as progress:
        yield {"on_progress": progress, "on_download": announce}


def announce(source: HubSource, plan: Plan) -> None:
    """Say how much is to be downloaded, and under which licence."""
    licence = licence_of(source.repo_id)
    terms = licence.name if licence else plan.repository.licence or "not known"
    notice(f"Downloading {source}: {size(plan.n_bytes)}; licence: {terms}")


def models_in(folder: Path) -> list[Path]:
    """The GGUF files in a folder, and the folders with safetensors; none where it cannot be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in entries if path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.safetensors")))]


def open_either(path: Path) -> mogemma.SyncGemmaModel | mogemma.SyncEmbeddingModel:
    """A model to look at, whether it writes text or only embeds."""
    try:
        return mogemma.SyncGemmaModel(path)
    except UnsupportedModelError:
        return mogemma.SyncEmbeddingModel(path)  # or it is none at all, and this says so
