"""Bring a model of the hub into its cache, whole and as its owner made it; or leave what was there as it was."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ..checkpoint.names import plain_name
from ..checkpoint.safetensors import INDEX
from ..errors import DownloadError, ModelFormatError
from . import cache, client
from .files import choose, is_shard, listed
from .source import HubSource
from .trouble import HubUnreachableError, WrongSizeError

Progress = Callable[[int, int], None]
"""Called with the bytes that are done and those in all."""

_BLOCK_BYTES = 1 << 20
_ATTEMPTS = 3


class Plan(NamedTuple):
    """What there is to download.

    Attributes:
        names: In this order, the small files first, so that what they say is known before the large ones are asked for.
        n_bytes: Of all of them.
    """

    repository: client.Repository
    names: list[str]

    @property
    def n_bytes(self) -> int:
        return sum(self.repository.files[name].n_bytes for name in self.names)


def look_up(source: HubSource) -> Plan:
    """Ask the hub what `pull` would take; nothing is downloaded. Raises as `pull` does."""
    client.check_reachable(source)
    repository = client.look_up(source)
    return Plan(repository, choose(source, repository.files))


def pull(source: HubSource, *, on_progress: Progress | None = None, plan: Plan | None = None) -> cache.Cached:
    """Download a model, or what is missing or damaged of it, and check every file's digest.

    Only then refs/main names the new commit: a model that was here before stays usable until the new one is whole, and if
    that fails. Two processes may do this at once; each file is downloaded once.

    Raises:
        ModelNotFoundError: There is no such model, or no such file in it.
        UnsupportedModelError: It is an adapter, or in no format that is read here.
        ModelAccessError: It takes a licence to be accepted, or a token.
        DownloadError: The connection, the disk or the hub's limits were in the way, or a file is not what it should be.
        ModelFormatError: The repository is incomplete, or names files outside of itself.
    """
    repository, names = plan or look_up(source)
    snapshot = cache.snapshot_folder(source.repo_id, repository.revision)
    _check_space(source, snapshot, repository, names)
    done = _Count(on_progress, sum(repository.files[name].n_bytes for name in names))
    queue, taken = list(names), list[str]()
    while queue:
        name = queue.pop(0)
        _take(source, name, repository, done)
        taken.append(name)
        if name == INDEX:
            queue = _with_shards(source, snapshot, repository, queue)
    cache.write_reference(source.repo_id, repository.revision)
    n_bytes = sum(repository.files[name].n_bytes for name in taken)
    return cache.Cached(source, repository.revision, cache.model_path(snapshot, taken), n_bytes)


class _Count:
    """The bytes that are done, told to who wants to know."""

    def __init__(self, on_progress: Progress | None, total: int) -> None:
        self._tell = on_progress
        self._total = total
        self._whole = 0
        self._part = 0

    @property
    def on_bytes(self) -> client.OnBytes | None:
        return self._add if self._tell is not None else None

    def _add(self, n_bytes: int) -> None:
        self._part += n_bytes
        if self._tell is not None:
            self._tell(min(self._whole + self._part, self._total), self._total)

    def drop_part(self) -> None:
        """What has arrived of a file is lost, or is counted again."""
        self._part = 0

    def close_file(self, n_bytes: int) -> None:
        """A file is whole, wherever its bytes came from."""
        self._whole += n_bytes
        self._part = 0
        self._add(0)


def _take(source: HubSource, name: str, repository: client.Repository, done: _Count) -> None:
    """Download one file and check it; one that was here before and is damaged is replaced."""
    expected = repository.files[name]
    path = cache.snapshot_folder(source.repo_id, repository.revision) / name
    was_here = path.exists()
    _download(source, name, repository, done)
    if not _is_sound(path, expected):
        _discard(path)
        if was_here:
            _download(source, name, repository, done)
        if not was_here or not _is_sound(path, expected):
            _discard(path)
            raise DownloadError(
                f"{source}: {name} arrived with another SHA-256 than the hub says it has, and was thrown away. Run the same "
                "again; if that does not help, something between here and the hub changes what it sends."
            )
    done.close_file(expected.n_bytes)


def _download(source: HubSource, name: str, repository: client.Repository, done: _Count) -> None:
    """Download one file. The client mends a short break by itself (before 1.0, when it is asked again), not a long one."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            client.download(source, name, repository.revision, done.on_bytes)
        except (HubUnreachableError, WrongSizeError) as error:  # noqa: PERF203  three times at most
            done.drop_part()
            if isinstance(error, WrongSizeError):
                cache.drop_unfinished(source.repo_id, repository.files[name].digest)
            if not attempts_left:
                raise
        else:
            return


def _is_sound(path: Path, expected: client.RemoteFile) -> bool:
    """Whether a file has the digest that the hub keeps: SHA-256 of a large file, git's SHA-1 of a small one."""
    if expected.sha256 is not None:
        return _digest(path, hashlib.sha256()) == expected.sha256
    if expected.git_sha1 is None:
        return path.stat().st_size == expected.n_bytes
    header = b"blob %d\0" % path.stat().st_size
    return _digest(path, hashlib.sha1(header, usedforsecurity=False)) == expected.git_sha1


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _discard(path: Path) -> None:
    """Remove a file of a snapshot and, where it is a link into `blobs`, what the link names."""
    if path.is_symlink():
        blob = path.parent / path.readlink()
        if blob.parent.name == "blobs":
            blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _with_shards(source: HubSource, snapshot: Path, repository: client.Repository, queue: list[str]) -> list[str]:
    """What is still to be taken, with just those shards that the index names; that some are missing is found before any is."""
    needed = {plain_name(name, snapshot) for name in cache.shards(snapshot)}
    if not needed:
        raise ModelFormatError(
            f"{source.repo_id} has an {INDEX} that names no file. Take the model from somebody else."
        )
    missing = sorted(needed - repository.files.keys())
    if missing:
        raise ModelFormatError(
            f"{source.repo_id} holds half a sharded checkpoint: of the {len(needed)} files that its index names "
            f"{len(missing)} are missing ({listed(missing)}). Take the model from somebody else."
        )
    return [*(name for name in queue if not is_shard(name)), *sorted(needed)]


def _check_space(source: HubSource, snapshot: Path, repository: client.Repository, names: Iterable[str]) -> None:
    missing = sum(repository.files[name].n_bytes for name in names if not (snapshot / name).exists())
    folder = cache.cache_folder()
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    if missing > free:
        raise DownloadError(
            f"{source} takes {missing / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB left. Make room there, take a smaller "
            "quantisation, or set HF_HOME to a folder on another disk."
        )
