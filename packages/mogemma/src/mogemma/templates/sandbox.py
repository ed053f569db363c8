"""Render a template that came with a model, and survive it: bounded in time, memory and length, whatever it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ..errors import PromptError

MAX_SOURCE_BYTES = 1 << 20
"""Gemma 4's template, the longest of a Gemma, has 16,000."""

CPU_SECONDS = 2
WALL_SECONDS = 30.0
"""Of a machine so busy that two seconds of computing take that long."""

MEMORY_BYTES = 512 << 20
OUTPUT_BYTES = 64 << 20

_CHILD = Path(__file__).with_name("sandbox_child.py")
_ADVICE = 'Use another with chat_template="builtin", or with the path of one.'
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


def check_can_render() -> None:
    """Raise PromptError where jinja2 is missing, or no process can be started for it."""
    if find_spec("jinja2") is None:
        raise PromptError(
            "The chat template of this model's file is rendered by jinja2, which is not installed. "
            'Install mogemma[templates], or use the template that is built in with chat_template="builtin".'
        )
    if not sys.executable or getattr(sys, "frozen", False):
        raise PromptError(
            "Chat templates of files are rendered in a process of their own, but this program knows no Python to start. "
            'Use the template that is built in with chat_template="builtin".'
        )


def render(source: str, variables: Mapping[str, Any], origin: str) -> str:
    """What a template writes.

    Args:
        source: A Jinja2 template.
        variables: What JSON can hold.
        origin: Where the template is from, for the message.

    Raises:
        PromptError: The template refuses the conversation, is wrong, or exceeds a limit; or jinja2 is missing.
    """
    check_can_render()
    request = {
        "paths": _paths(),
        "source": source,
        "variables": variables,
        "cpu_seconds": CPU_SECONDS,
        "memory_bytes": MEMORY_BYTES,
        "output_bytes": OUTPUT_BYTES,
    }
    word, text = _run(json.dumps(request).encode(), origin)
    if word == "text":
        return text
    if word == "refused":
        raise PromptError(f"The chat template of {origin} refuses this conversation: {text[:500]}")
    raise PromptError(f"The chat template of {origin} {text}. {_ADVICE}")


def _run(request: bytes, origin: str) -> tuple[str, str]:
    """The child's answer. Files, not pipes, so that neither waits for the other and the system bounds what is written."""
    with TemporaryFile() as given, TemporaryFile() as answer:
        given.write(request)
        given.seek(0)
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_CHILD)],
                stdin=given,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                timeout=WALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PromptError(_too_long(origin)) from None
        except OSError as error:
            raise PromptError(
                f"The chat template of {origin} needs a process to be rendered in, but {sys.executable} cannot be started: "
                f"{error}. {_ADVICE}"
            ) from error
        if done.returncode == -signal.SIGXCPU:
            raise PromptError(_too_long(origin))
        if done.returncode:
            raise PromptError(
                f"The chat template of {origin} ended the process that rendered it (status {done.returncode}). {_ADVICE}"
            )
        answer.seek(0)
        word, _, text = answer.read().partition(b"\n")
    return word.decode("ascii"), text.decode("utf-8", "surrogatepass")  # of lone surrogates the tokenizer complains


def _too_long(origin: str) -> str:
    return f"The chat template of {origin} takes more than {CPU_SECONDS} seconds. {_ADVICE}"


def _paths() -> list[str]:
    """The folders that jinja2, and what it needs, are in."""
    folders = []
    for name in ("jinja2", "markupsafe"):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(folders))
