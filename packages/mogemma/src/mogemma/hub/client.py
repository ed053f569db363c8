"""huggingface-hub, asked for one thing at a time, and what can go wrong with it as sentences.

Works with 0.30, which is built on requests, to 2.4, on httpx2: nothing but their common surface is used.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import DownloadError, ModelAccessError, ModelNotFoundError, MogemmaError
from .cache import cache_folder
from .known import licence_of
from .source import HubSource

OnBytes = Callable[[int], None]
"""Called with how many more bytes have arrived; fewer than none when some have to be sent again."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HTTP_LIBRARIES = ("requests", "httpx", "httpx2", "urllib3", "httpcore", "httpcore2")


class HubUnreachableError(DownloadError):
    """The hub does not answer."""


class NotHereError(ModelNotFoundError):
    """The model is not on this machine, and the hub may not, or cannot, be asked."""


class RemoteFile(NamedTuple):
    """A file of a repository.

    Attributes:
        sha256: Of the content, where the hub keeps it as a large file; None for a small one.
        git_sha1: Of the content with git's header before it; None where the hub does not tell.
    """

    n_bytes: int
    sha256: str | None
    git_sha1: str | None


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
    check_installed(f"{source} is not on this machine; to download it")
    if is_offline():
        raise NotHereError(
            f"{source} is not on this machine (looked for in {cache_folder()}), and HF_HUB_OFFLINE forbids to download it. "
            f"Unset HF_HUB_OFFLINE and run: mogemma pull {source}"
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

    with _explained(source):
        api = HfApi(endpoint=_endpoint(), library_name="mogemma")
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
    with _explained(source):
        path = hf_hub_download(
            source.repo_id,
            name,
            revision=revision,
            cache_dir=cache_folder(),
            endpoint=_endpoint(),
            library_name="mogemma",
            **options,
        )
    return Path(path)


def _endpoint() -> str:
    from huggingface_hub import constants  # noqa: PLC0415  as above

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


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
    """As much of tqdm's class as the client calls: a bar for each file, which here is a number that grows."""

    class Bar:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            on_bytes(initial)

        def update(self, n: float | None = 1) -> None:
            on_bytes(int(n or 0))

        def __getattr__(self, name: str) -> Any:
            """What only draws: close, refresh, set_description, ..."""
            if name.startswith("__") or name == "update_transfer":
                raise AttributeError(name)
            return lambda *_, **__: None

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    return Bar


@contextmanager
def _explained(source: HubSource) -> Iterator[None]:
    """Turn what the client raises into one of ours."""
    try:
        yield
    except MogemmaError:
        raise
    except Exception as error:
        raise _explain(source, error) from error


def _explain(source: HubSource, error: BaseException) -> MogemmaError:
    from huggingface_hub import errors  # noqa: PLC0415  as above

    host = urlsplit(_endpoint()).netloc
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explain(source, error.__cause__)
    if isinstance(error, errors.GatedRepoError):
        return ModelAccessError(_how_to_get_access(source))
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return _no_such_model(source, host)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NotHereError(f"{source} is not on this machine, and HF_HUB_OFFLINE forbids to download it.")
    if isinstance(error, errors.HfHubHTTPError) and getattr(error, "response", None) is not None:
        return _explain_status(source, host, error)
    return _explain_failure(source, host, error)


def _explain_failure(source: HubSource, host: str, error: BaseException) -> MogemmaError:
    """What is no answer of the hub: the disk, the network, or something else that answers."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOSPC:
        return DownloadError(
            f"{source}: the disk that holds {cache_folder()} is full. Make room there, or set HF_HOME to a folder on another."
        )
    if number in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
        return DownloadError(
            f"{source}: {cache_folder()} cannot be written ({error}). Set HF_HOME to a folder of yours."
        )
    if "Consistency check failed" in str(error):
        return DownloadError(f"{source}: {host} sent a file of another size than it said. {_AGAIN}")
    if isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.startswith(_HTTP_LIBRARIES):
        return HubUnreachableError(
            f"{source} is not on this machine as a whole, and {host} cannot be reached, or broke off ({_first_line(error)}). "
            f"Is there a network, or a proxy to be set (HTTPS_PROXY)? {_AGAIN}"
        )
    return DownloadError(
        f"{source} cannot be downloaded: {host} does not answer as a hub does ({_first_line(error)}). Is HF_ENDPOINT right, "
        "and no proxy in between?"
    )


_AGAIN = "Run the same again: the files that have arrived whole are kept."


def _no_such_model(source: HubSource, host: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"There is no model {source.repo_id} on {host}, and no file or folder of that name here. Is it misspelt? For a "
        "private one set HF_TOKEN to a token that may read it."
    )


def _explain_status(source: HubSource, host: str, error: Any) -> MogemmaError:
    from huggingface_hub import get_token  # noqa: PLC0415  as above

    status, headers = error.response.status_code, error.response.headers
    if status == 401 and not get_token():
        return _no_such_model(source, host)  # what is private is not told from what does not exist
    if status == 401:
        return ModelAccessError(
            f"{host} refuses the token: it is wrong, or was withdrawn. Make a new one at https://huggingface.co/settings/tokens "
            "and set HF_TOKEN to it, or unset HF_TOKEN where the model needs none."
        )
    if status == 403:
        return ModelAccessError(
            f"The token may not read {source.repo_id}. Give it the permission to read (gated) repositories at "
            "https://huggingface.co/settings/tokens, or set HF_TOKEN to another."
        )
    if status == 429:
        wait = str(headers.get("Retry-After", ""))
        when = f"in {wait} s" if wait.isdecimal() else "in some minutes"
        return DownloadError(
            f"{source}: {host} has had too many requests from this address. Try again {when}; with HF_TOKEN set the limit is "
            "higher."
        )
    if status == 404:
        return DownloadError(f"{source} has changed on {host} meanwhile: a file is gone. Run the same again.")
    return DownloadError(f"{source}: {host} answers with status {status}. Try again later. {_AGAIN}")


def _how_to_get_access(source: HubSource) -> str:
    from huggingface_hub import get_token  # noqa: PLC0415  as above

    licence = licence_of(source.repo_id)
    terms = f"the {licence.name} ({licence.url})" if licence else "its licence"
    page = f"https://huggingface.co/{source.repo_id}"
    if get_token():
        return (
            f"{source.repo_id} is given only to who has accepted {terms}, and the account of your token has not, or waits for "
            f"an answer. Log in with it at {page}, accept there, and run the same again. A fine-grained token also needs the "
            "permission to read gated repositories."
        )
    return (
        f"{source.repo_id} is given only to who has accepted {terms}. (1) Log in at {page} and accept. (2) Make a token that "
        "may read at https://huggingface.co/settings/tokens. (3) Set HF_TOKEN to it, or run: hf auth login. Then run the same "
        "again."
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
