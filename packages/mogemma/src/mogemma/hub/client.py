"""huggingface-hub, asked for one thing at a time.

Works with 0.30, which is built on requests, to 2.4, on httpx2: nothing but their common surface is used.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .cache import cache_folder
from .source import HubSource
from .trouble import NotHereError, endpoint, explained

OnBytes = Callable[[int], None]
"""Called with how many more bytes have arrived; fewer than none when some have to be sent again."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class RemoteFile(NamedTuple):
    """A file of a repository.

    Attributes:
        sha256: Of the content, where the hub keeps it as a large file; None for a small one.
        git_sha1: Of the content with git's header before it; None where the hub does not tell.
    """

    n_bytes: int
    sha256: str | None
    git_sha1: str | None

    @property
    def digest(self) -> str:
        """What the cache calls the content."""
        return self.sha256 or self.git_sha1 or ""


class Repository(NamedTuple):
    """A repository as it is now.

    Attributes:
        revision: The commit.
        files: By name, with `/` between folders.
        licence: What its owner calls it, such as gemma or apache-2.0.
    """

    revision: str
    files: dict[str, RemoteFile]
    licence: str | None
    is_gated: bool


def check_installed(what_for: str) -> None:
    """Raise NotHereError where huggingface-hub is missing."""
    if find_spec("huggingface_hub") is None:
        raise NotHereError(f"{what_for}, huggingface-hub is needed: pip install 'mogemma[hub]'")


def check_reachable(source: HubSource) -> None:
    """Raise NotHereError where nothing can be downloaded, before anything is tried."""
    check_installed(f"{source} is to be downloaded; for that")
    if is_offline():
        raise NotHereError(
            f"{source} is to be downloaded, and HF_HUB_OFFLINE forbids that. Unset it and run: mogemma pull {source}"
        )


def is_offline() -> bool:
    """Whether the person has forbidden the network to huggingface-hub."""
    from huggingface_hub import constants  # noqa: PLC0415  an extra, and only who asks the hub needs it

    return bool(constants.HF_HUB_OFFLINE)


def look_up(source: HubSource) -> Repository:
    """Ask the hub what a repository holds.

    Raises:
        ModelNotFoundError: There is no such repository.
        DownloadError: The hub does not answer, or not as a hub.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415  as above

    with explained(source):
        api = HfApi(endpoint=endpoint(), library_name="mogemma")
        info = api.model_info(source.repo_id, files_metadata=True, timeout=_timeout())
        files = {each.rfilename: _remote_file(each) for each in info.siblings or ()}
        if not _COMMIT.fullmatch(str(info.sha)):
            raise ValueError(f"{str(info.sha)[:50]!r} is no commit")
        return Repository(str(info.sha), files, _licence(info), bool(info.gated))


def download(source: HubSource, name: str, revision: str, on_bytes: OnBytes | None) -> Path:
    """Bring a file of a commit into the cache, unless it is there; its path in the snapshot.

    Raises:
        ModelAccessError: The hub gives it only to who has accepted a licence, or may see the repository.
        DownloadError: The connection, the disk or the hub's limits were in the way.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  as above

    options: dict[str, Any] = {}
    if on_bytes is not None and "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # since 1.0
        options["tqdm_class"] = _bar(on_bytes)
    with explained(source):
        path = hf_hub_download(
            source.repo_id,
            name,
            revision=revision,
            cache_dir=cache_folder(),
            endpoint=endpoint(),
            library_name="mogemma",
            **options,
        )
    return Path(path)


def _timeout() -> float:
    from huggingface_hub import constants  # noqa: PLC0415  as above

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _remote_file(sibling: Any) -> RemoteFile:
    return RemoteFile(sibling.size or 0, sibling.lfs["sha256"] if sibling.lfs else None, sibling.blob_id)


def _licence(info: Any) -> str | None:
    """What the owner wrote into the repository's card."""
    card = info.card_data
    licence = card.get("license_name") or card.get("license") if card is not None else None
    return str(licence) if licence else None


def _bar(on_bytes: OnBytes) -> type:
    """The client's class of progress bars, one for each file, made to tell a number instead of drawing."""
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415  as above

    base: Any = tqdm  # it has no types

    def start(bar: Any, *args: Any, **options: Any) -> None:
        base.__init__(bar, *args, **{**options, "disable": True})
        on_bytes(int(bar.n))  # what an earlier attempt has left

    def update(bar: Any, n: float | None = 1) -> None:
        bar.n += int(n or 0)
        on_bytes(int(n or 0))

    def nothing(*_: Any, **__: Any) -> None:
        """Of bytes as they come over the network, which are others; without these the client makes a second bar of them."""

    names = {"update_transfer": nothing, "set_transfer_postfix_str": nothing}
    return type("Bar", (base,), {"__init__": start, "update": update, **names})
