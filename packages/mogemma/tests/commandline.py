"""`mogemma` as a person calls it: in this process, or in one of its own where signals and pipes matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder
from click.testing import CliRunner, Result

from mogemma.cli import main

WRITER, EMBEDDER = str(GEMMA), str(EMBEDDING_GEMMA)
GREEDY = ("-m", WRITER, "--temperature", "0")
PROMPT = "The capital of France is"
"""After it the tiny model says the same word again and again, so that it ends only when it is told to."""

SCHEMA = {
    "text": str,
    "token_ids": list,
    "finish_reason": str,
    "stopped_by": str | None,
    "seed": int,
    "usage": dict,
    "timings": dict,
    "logprobs": list | None,
    "reasoning": str | None,
    "tool_calls": list,
    "model": dict,
}
"""What `generate --json` and `chat --json` print."""


def run(*arguments: str, stdin: str | bytes = b"", **variables: str) -> Result:
    """Call it with standard input from a pipe, and with no other MOGEMMA_ variable than these."""
    clean = {name: None for name in os.environ if name.startswith("MOGEMMA_")}
    env = {**clean, "MOGEMMA_MODELS": "/no/models", **variables}
    result = CliRunner().invoke(main, arguments, input=stdin, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(
    *arguments: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    **variables: str,
) -> subprocess.Popen[bytes]:
    """Call it in a process of its own, with these environment variables."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MOGEMMA_")}
    command = [sys.executable, "-m", "mogemma", *arguments]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env={**others, **variables})


def document(result: Result) -> Any:
    """The one JSON document that a call printed."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def endless_model(folder: Path) -> str:
    """The tiny model with a context that takes minutes to fill."""
    return str(copy_folder(GEMMA, folder / "endless", {"max_position_embeddings": 131072}))
