"""Where a model is that somebody names. The first that fits:

1. a path: what lies there, also when it is called like a known model
2. the model folder: a file or folder of that name in it
3. the hub's cache: a known name, or `org/name` with a file or a quantisation behind a colon
4. the hub itself, which is asked only when the first three have nothing

A name that is no path, no known model and no id is an error; so is a path (absolute, with `.` or `~` in front, or ending as
a model file does) where nothing lies. Nothing of that needs the network.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from ..checkpoint.files import stat_path
from ..errors import ModelNotFoundError
from ..library import FOLDER_VARIABLE, model_folder
from . import cache
from .folder import find_in_folder
from .known import GENERATOR, KNOWN, STAND_INS
from .pull import Plan, Progress, look_up, pull
from .source import HubSource, read_source
from .trouble import HubUnreachableError, NotHereError


class Located(NamedTuple):
    """Where a model is.

    Attributes:
        path: What `open_checkpoint` takes.
        origin: How it was found: by its path, in the model folder, or by way of the hub.
        source: What it is called on the hub.
        revision: Which commit of that.
    """

    path: Path
    origin: Literal["path", "model folder", "hub"]
    source: HubSource | None = None
    revision: str | None = None


class Wanted(NamedTuple):
    """A model of the hub that is not here."""

    source: HubSource


def locate(
    name: str | os.PathLike[str] | None,
    *,
    default: str = GENERATOR,
    on_progress: Progress | None = None,
    on_download: Callable[[HubSource, Plan], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Located:
    """Find a model, and download it where that is needed.

    Args:
        name: A path, the name of a file in the model folder, a known name, or what the hub calls a model; None: the default.
        default: A known name.
        on_progress: Called with the bytes that are downloaded and those in all; default: the hub's client shows bars.
        on_download: Called before a download begins.
        tell: Called with a sentence when another model takes the default's place; default: a warning.

    Raises:
        ModelNotFoundError: There is no such model, or it is not here and may not be downloaded.
        DownloadError: It could not be downloaded.
    """
    found = search(default if name is None else name)
    if isinstance(found, Located):
        return found
    try:
        return _download(found.source, on_progress, on_download)
    except (HubUnreachableError, NotHereError) as error:
        if name is not None:
            raise
        path = stand_in(default)
        if path is None:
            raise type(error)(
                f"No model is named, and the default one, {default}, cannot be had: {error} Or name one that is here; "
                "`mogemma list` shows them."
            ) from error
        (tell or _warn)(f"{path} takes the place of {default}: {error}")
        return Located(path, "model folder")


def search(name: str | os.PathLike[str]) -> Located | Wanted:
    """What of `locate` needs no network.

    Raises:
        ModelNotFoundError: There is no such model here, and there can be none on the hub.
    """
    path = Path(name)
    with suppress(RuntimeError):  # no such user: then it is the name of a file
        path = path.expanduser()
    if path.is_absolute() or stat_path(path) is not None:
        return Located(path, "path")
    text = os.fspath(name)
    in_folder = find_in_folder(text)
    if in_folder is not None:
        return Located(in_folder, "model folder")
    source = read_source(text) if isinstance(name, str) else None
    if source is None:
        raise ModelNotFoundError(_not_found(text))
    cached = cache.find(source)
    return Wanted(source) if cached is None else _of(cached)


def stand_in(default: str) -> Path | None:
    """What may take the place of a default model that cannot be had; None where there is nothing."""
    return find_in_folder(STAND_INS[default]) if default in STAND_INS else None


def _download(
    source: HubSource,
    on_progress: Progress | None,
    on_download: Callable[[HubSource, Plan], None] | None,
) -> Located:
    plan = look_up(source)
    if on_download is not None:
        on_download(source, plan)
    return _of(pull(source, on_progress=on_progress, plan=plan))


def _of(cached: cache.Cached) -> Located:
    return Located(cached.path, "hub", cached.source, cached.revision)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, UserWarning, stacklevel=4)  # at the line that made the model


def _not_found(name: str) -> str:
    near = get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]}? " if near else ""
    return (
        f"There is no model {name!r}, neither as a path nor in {model_folder()} ({FOLDER_VARIABLE}), and none is known by "
        f"that name. {guess}Give the path of a .gguf file or of a folder with safetensors, a name that `mogemma list --known` "
        "shows, or what the hub calls a model, such as ggml-org/gemma-3-1b-it-GGUF:Q8_0."
    )
