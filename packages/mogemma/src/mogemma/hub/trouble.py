"""What can go wrong with the hub, as sentences that say what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..errors import DownloadError, ModelAccessError, ModelNotFoundError, MogemmaError
from .cache import cache_folder
from .known import licence_of
from .source import HubSource

_HTTP_LIBRARIES = ("requests", "httpx", "httpx2", "urllib3", "httpcore", "httpcore2")
_AGAIN = "Run the same again: the files that have arrived whole are kept."


class HubUnreachableError(DownloadError):
    """The hub does not answer."""


class WrongSizeError(DownloadError):
    """More or less arrived of a file than the hub has."""


class NotHereError(ModelNotFoundError):
    """The model is not on this machine, and the hub may not, or cannot, be asked."""


def endpoint() -> str:
    """Where the hub is: HF_ENDPOINT, or what the client knows."""
    from huggingface_hub import constants  # noqa: PLC0415  an extra, and only who asks the hub needs it

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


@contextmanager
def explained(source: HubSource) -> Iterator[None]:
    """Turn what the client raises into one of ours."""
    try:
        yield
    except MogemmaError:
        raise
    except Exception as error:
        raise _explain(source, error) from error


def _explain(source: HubSource, error: BaseException) -> MogemmaError:
    from huggingface_hub import errors  # noqa: PLC0415  as above

    host = urlsplit(endpoint()).netloc
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explain(source, error.__cause__)
    if isinstance(error, errors.GatedRepoError):
        return ModelAccessError(_how_to_get_access(source))
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return _no_such_model(source, host)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NotHereError(f"{source} is to be downloaded, and HF_HUB_OFFLINE forbids that.")
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
        return WrongSizeError(f"{source}: {host} sent a file of another size than it said. {_AGAIN}")
    # A ValueError of theirs is an address or a JSON document that is none.
    is_of_http = type(error).__module__.startswith(_HTTP_LIBRARIES) and not isinstance(error, ValueError)
    if isinstance(error, (ConnectionError, TimeoutError)) or is_of_http:
        return HubUnreachableError(
            f"{source} cannot be downloaded: {host} cannot be reached, or broke off ({_first_line(error)}). Is there a network, or a proxy to be set (HTTPS_PROXY)? {_AGAIN}"
        )
    return DownloadError(
        f"{source} cannot be downloaded: {host} does not answer as a hub does ({_first_line(error)}). Is HF_ENDPOINT right, "
        "and no proxy in between?"
    )


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
