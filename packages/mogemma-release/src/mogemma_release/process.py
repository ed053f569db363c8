"""Runs one command: its output goes live to a log and whoever listens, a time limit ends it and all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from .errors import ReleaseError

GRACE_SECONDS = 10.0
"""Between the signal that asks a command to end and the one that does not ask."""


@dataclass(frozen=True)
class Ran:
    """How a command went.

    Attributes:
        exit_status: As a shell gives it: 128 and the signal's number where one ended the command.
        seconds: By a clock that nobody sets.
        timed_out: The time limit ended it.
    """

    started: datetime
    ended: datetime
    seconds: float
    exit_status: int
    timed_out: bool = False

    @property
    def passed(self) -> bool:
        return self.exit_status == 0 and not self.timed_out


def run(
    command: Sequence[str],
    folder: Path,
    log: Path,
    *,
    limit_seconds: float,
    variables: Mapping[str, str] | None = None,
    output: Path | None = None,
    listen: Callable[[str], None] = lambda _: None,
) -> Ran:
    """Run a command in a folder; standard output and standard error go into `log` as they come.

    With `output`, standard output goes there instead. `variables` are added to this process's own. `listen` is told each
    line of the log.

    Raises:
        ReleaseError: It cannot be started, or the log cannot be written; the command is ended then.
        KeyboardInterrupt: After it has been ended.
    """
    started, clock = datetime.now(timezone.utc), time.monotonic()
    try:
        with output.open("wb") if output else nullcontext() as results:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=results or subprocess.PIPE,
                stderr=subprocess.PIPE if results else subprocess.STDOUT,
                start_new_session=True,  # so that what it starts can be ended with it
            )
    except OSError as error:
        raise ReleaseError(f"{command[0]} cannot be started: {error.strerror}.") from error
    timed_out = threading.Event()

    def end() -> None:
        timed_out.set()
        _end(process)

    timer = threading.Timer(limit_seconds, end)
    timer.daemon = True
    timer.start()
    try:
        _copy(process, log, listen)
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        timer.cancel()
        _told(process).close()
    seconds = time.monotonic() - clock
    ended = datetime.now(timezone.utc)
    return Ran(started, ended, seconds, status if status >= 0 else 128 - status, timed_out.is_set())


def _copy(process: subprocess.Popen[bytes], log: Path, listen: Callable[[str], None]) -> None:
    try:
        with log.open("wb") as stream:
            for line in _told(process):
                stream.write(line)
                stream.flush()
                listen(line.decode("utf-8", "replace").rstrip("\n"))
    except OSError as error:
        raise ReleaseError(f"{log} cannot be written: {error.strerror}. The command was ended.") from error


def _told(process: subprocess.Popen[bytes]) -> IO[bytes]:
    stream = process.stdout or process.stderr
    assert stream is not None
    return stream


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end, then make it; what is left of it is ended even if the command itself is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
