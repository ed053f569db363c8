"""What the hub's cache holds, read without its client: refs/main names a commit, snapshots/<commit> has its files.

The layout is the one that huggingface-hub documents ("Understand caching"), shared with every other program that uses it:

    models--org--name/refs/main                      the commit that was last taken
    models--org--name/snapshots/<commit>/<file>      a link to blobs/<digest>
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..checkpoint.bounded_json import read_json_file
from ..checkpoint.safetensors import INDEX
from ..errors import MogemmaError
from .files import MODULES, SINGLE, TOKENIZERS, choose, is_gguf_model
from .source import HubSource

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PREFIX = "models--"
_MODULE_FILES = {"Dense": ("config.json", SINGLE), "Pooling": ("config.json",)}


class Cached(NamedTuple):
    """A model that is here and whole.

    Attributes:
        path: What `open_checkpoint` takes.
        n_bytes: Of all its files.
    """

    source: HubSource
    revision: str
    path: Path
    n_bytes: int


def cache_folder() -> Path:
    """Where huggingface-hub keeps what it downloads: HF_HUB_CACHE, else `hub` in HF_HOME, else in the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(user, "huggingface")  # noqa: PTH118  variables are still in it
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(hub)).expanduser()


def repository_folder(repo_id: str) -> Path:
    """Where the cache keeps a repository; `source.read_source` has made sure that no two share one."""
    return cache_folder() / f"{_PREFIX}{repo_id.replace('/', '--')}"


def find(source: HubSource) -> Cached | None:
    """The model of that name, if all of its files are here."""
    snapshot = _snapshot(repository_folder(source.repo_id))
    if snapshot is None:
        return None
    with suppress(MogemmaError, OSError):  # what does not fit, or is damaged, may be otherwise on the hub
        chosen = choose(source, _names(snapshot))
        if _is_whole(snapshot, chosen):
            return _cached(source, snapshot, chosen)
    return None


def models() -> Iterator[Cached]:
    """Every model of the cache that is whole, each GGUF file of a repository by itself."""
    with suppress(OSError):
        for folder in sorted(cache_folder().iterdir()):
            snapshot = _snapshot(folder) if folder.name.startswith(_PREFIX) else None
            if snapshot is not None:
                repo_id = folder.name.removeprefix(_PREFIX).replace("--", "/")
                yield from _models_in(repo_id, snapshot)


def write_reference(repo_id: str, revision: str) -> None:
    """Say that a commit is here as a whole; what was there before is replaced in one step."""
    folder = repository_folder(repo_id)
    unfinished = folder / f".main.{os.getpid()}.tmp"
    try:
        (folder / "refs").mkdir(exist_ok=True)
        unfinished.write_text(revision, encoding="ascii")
        unfinished.replace(folder / "refs" / "main")
    finally:
        unfinished.unlink(missing_ok=True)


def drop_unfinished(repo_id: str, digest: str) -> None:
    """Remove what the client keeps of a file that has not arrived whole, so that it is not continued."""
    (repository_folder(repo_id) / "blobs" / f"{digest}.incomplete").unlink(missing_ok=True)


def snapshot_folder(repo_id: str, revision: str) -> Path:
    return repository_folder(repo_id) / "snapshots" / revision


def model_path(snapshot: Path, chosen: list[str]) -> Path:
    """What to open of the files that `choose` has chosen: the GGUF file, or the folder of the others."""
    return snapshot / chosen[0] if chosen[0].endswith(".gguf") else snapshot


def shards(snapshot: Path) -> set[str]:
    """The files that the index of a sharded checkpoint names.

    Raises:
        ModelFormatError: It is no JSON.
    """
    index = read_json_file(snapshot / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    return {str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else set()


def _models_in(repo_id: str, snapshot: Path) -> Iterator[Cached]:
    ggufs = [name for name in _names(snapshot) if is_gguf_model(name)]
    for which in [None, *ggufs] if not ggufs or (snapshot / "config.json").exists() else ggufs:
        found = find(HubSource(repo_id, which))
        if found is not None and (which is not None) == (found.path != snapshot):
            yield found


def _snapshot(folder: Path) -> Path | None:
    """The files of the commit that refs/main names."""
    try:
        revision = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / revision
    return snapshot if _COMMIT.fullmatch(revision) and snapshot.is_dir() else None


def _names(snapshot: Path) -> list[str]:
    """All files of a snapshot as the hub spells them; links that lead nowhere are not among them."""
    return sorted(file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file())


def _is_whole(snapshot: Path, chosen: list[str]) -> bool:
    """Whether nothing is missing. The hub says what a repository has; without it, the files say what they need."""
    if chosen[0].endswith(".gguf"):
        return True
    needed = {SINGLE} if SINGLE in chosen else shards(snapshot)
    if MODULES in chosen:
        needed |= _module_files(snapshot)
    return bool(needed) and needed <= set(chosen) and not set(chosen).isdisjoint(TOKENIZERS)


def _module_files(snapshot: Path) -> set[str]:
    """What the modules of a sentence-transformers model keep in folders of their own."""
    modules = read_json_file(snapshot / MODULES)
    rows = [row for row in modules if isinstance(row, dict)] if isinstance(modules, list) else []
    kinds = [(row.get("path"), str(row.get("type")).rpartition(".")[2]) for row in rows]
    return {f"{path}/{name}" for path, kind in kinds if path for name in _MODULE_FILES.get(kind, ())}


def _cached(source: HubSource, snapshot: Path, chosen: list[str]) -> Cached:
    n_bytes = sum((snapshot / name).stat().st_size for name in chosen)
    return Cached(source, snapshot.name, model_path(snapshot, chosen), n_bytes)
