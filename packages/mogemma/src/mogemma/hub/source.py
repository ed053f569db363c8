"""What a hub's model is called: `org/name`, and behind a colon which of its files: `org/name:Q8_0`, `org/name:a.gguf`."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..checkpoint.names import quote
from ..errors import ModelNotFoundError
from .known import KNOWN

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(f"{_PART}/{_PART}")
_WEB = re.compile(r"https?://|hf\.co/|huggingface\.co/")
_ENDS_AS_FILE = re.compile(r"\.(gguf|safetensors|json)$", re.IGNORECASE)


class HubSource(NamedTuple):
    """A repository, and which of its models: a file, a quantisation, or None for the one that `files.choose` prefers."""

    repo_id: str
    which: str | None = None

    def __str__(self) -> str:
        return f"{self.repo_id}:{self.which}" if self.which else self.repo_id


def read_source(name: str) -> HubSource | None:
    """The hub's model that a name means, a known one or an id; None when it can only be a path.

    Raises:
        ModelNotFoundError: It is meant for the hub, and cannot be the name of anything there.
    """
    web = _WEB.match(name)
    if web is not None:
        raise ModelNotFoundError(
            f"{quote(name)} is a web address. Give what the hub calls the model, such as ggml-org/gemma-3-1b-it-GGUF, or "
            "download the file and give its path."
        )
    head, colon, which = name.partition(":")
    if head.lower() in KNOWN:
        return HubSource(KNOWN[head.lower()].repo_id, _checked(which, name) if colon else None)
    if not _REPO_ID.fullmatch(head) or (_ENDS_AS_FILE.search(head) and not colon):
        return None
    if ".." in head or "--" in head or head.endswith(".git"):
        return None  # the hub has no such names, and its cache could not tell them apart
    return HubSource(head, _checked(which, name) if colon else None)


def _checked(which: str, name: str) -> str:
    """The part behind the colon, which may have folders in it but must not leave the repository."""
    if not which or not is_inside(which):
        raise ModelNotFoundError(
            f"{quote(name)}: what stands behind the colon must be a quantisation such as Q8_0, or a file of the repository."
        )
    return which


def is_inside(path: str) -> bool:
    """Whether a path, as a repository spells it, stays inside the folder that it is put in."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and ":" not in path and not {"", ".", ".."}.intersection(parts)
