"""Take a model out of the hub's cache, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import ModelNotFoundError
from . import cache
from .client import check_installed


class Kept(NamedTuple):
    """All that the cache holds of a repository: every commit and every file, also of downloads that were broken off."""

    repo_id: str
    folder: Path
    n_bytes: int


def kept(repo_id: str) -> Kept:
    """What `remove` would delete.

    Raises:
        ModelNotFoundError: There is nothing.
    """
    folder = cache.repository_folder(repo_id)
    if folder.is_symlink() or not folder.is_dir():
        raise ModelNotFoundError(f"{cache.cache_folder()} has nothing of {repo_id}. `mogemma list` shows what is here.")
    blobs = [file for file in folder.glob("blobs/*") if file.is_file()]
    # Where a system has no links, the content itself is there.
    copies = [file for file in folder.glob("snapshots/**/*") if file.is_file() and not file.is_symlink()]
    return Kept(repo_id, folder, sum(file.stat().st_size for file in (*blobs, *copies)))


def remove(repo_id: str) -> Kept:
    """Delete all of a repository; returns what there was.

    The hub's client does it, because only that knows which files it shares between repositories. What it does not count as
    a part of its cache, such as the rest of a broken download, goes after it.

    Raises:
        ModelNotFoundError: There is nothing of it, or the client is not installed.
        OSError: The system refuses.
    """
    check_installed(f"To delete {repo_id}")
    from huggingface_hub import scan_cache_dir  # noqa: PLC0415  an extra, and only who deletes needs it

    what = kept(repo_id)
    cached = scan_cache_dir(cache.cache_folder())
    for repository in cached.repos:
        if (repository.repo_type, repository.repo_id) == ("model", repo_id):
            # Of this repository alone: a copy of it has the same commits.
            alone = replace(cached, repos=frozenset({repository}))
            alone.delete_revisions(*(revision.commit_hash for revision in repository.revisions)).execute()
    if what.folder.exists():
        shutil.rmtree(what.folder)
    return what
