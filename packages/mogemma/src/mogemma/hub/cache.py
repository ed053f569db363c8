"""What the hub's cache holds, read without its client: refs/main names a commit, snapshots/<commit> has its files.

The layout is the one that huggingface-hub documents ("Understand caching"), shared with every other program that uses it:

    models--org--name/refs/main                      the commit that was last taken, or begun by another program
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
    """The model of that name, if all of its files are here, of the newest commit that has them."""
    for snapshot in _snapshots(repository_folder(source.repo_id)):
        with suppress(MogemmaError, OSError):  # what does not fit, or is damaged, may be otherwise on the hub
            chosen = choose(source, _names(snapshot))
            if _is_whole(snapshot, chosen):
                return _cached(source, snapshot, chosen)
    return None


def models() -> Iterator[Cached]:
    """Every model of the cache that is whole, each GGUF file of a repository by itself."""
    with suppress(OSError):
        for folder in sorted(cache_folder().iterdir()):
            if folder.name.startswith(_PREFIX):
                repo_id = folder.name.removeprefix(_PREFIX).replace("--", "/")
                yield from _models_in(repo_id, _snapshots(folder))


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


def _models_in(repo_id: str, snapshots: list[Path]) -> Iterator[Cached]:
    names = {name for snapshot in snapshots for name in _names(snapshot)}
    for which in [None, *sorted(filter(is_gguf_model, names))]:
        found = find(HubSource(repo_id, which))
        if found is not None and (which is None) == found.path.is_dir():
            yield found


def _snapshots(folder: Path) -> list[Path]:
    """The files of the commit that refs/main names, and then those of others, the newest first.

    Another program may have moved the reference to a commit of which it wanted one file, or got no further. What has come
    since then is left out: it may be a download under way, whose digests are not compared yet.
    """
    reference = folder / "refs" / "main"
    with suppress(OSError, ValueError):
        revision, moved = reference.read_text(encoding="ascii").strip(), reference.stat().st_mtime
        if _COMMIT.fullmatch(revision):
            here = [each for each in (folder / "snapshots").iterdir() if _COMMIT.fullmatch(each.name) and each.is_dir()]
            came = {each: each.stat().st_mtime for each in here}
            older = [each for each in here if each.name != revision and came[each] <= moved]
            return [each for each in here if each.name == revision] + sorted(older, key=came.__getitem__, reverse=True)
    return []


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
