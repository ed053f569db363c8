"""Runs one command: its output goes live to a log and whoever listens, a time limit ends it and all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from .errors import ReleaseError
from .signals import signals_held

GRACE_SECONDS = 10.0
"""Between the signal that asks a command to end and the one that does not ask."""

_GLANCE_SECONDS = 0.02


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
        KeyboardInterrupt: After it has been ended; Stopped, for other signals than Ctrl-C's, is one.
    """
    started, clock = datetime.now(timezone.utc), time.monotonic()
    with signals_held() as let_signals_come:  # one that came while the command starts would leave it running
        process = _start(command, folder, variables or {}, output)
        timed_out = threading.Event()

        def end() -> None:
            timed_out.set()
            _end(process)

        timer = threading.Timer(limit_seconds, end)
        timer.daemon = True
        timer.start()
        try:
            let_signals_come()
            _copy(process, log, listen)
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            timer.cancel()
            timer.join()
            _told(process).close()
    seconds = time.monotonic() - clock
    ended = datetime.now(timezone.utc)
    return Ran(started, ended, seconds, status if status >= 0 else 128 - status, timed_out.is_set())


def _start(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], output: Path | None
) -> subprocess.Popen[bytes]:
    try:
        with output.open("wb") if output else nullcontext() as results:
            return subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=results or subprocess.PIPE,
                stderr=subprocess.PIPE if results else subprocess.STDOUT,
                start_new_session=True,  # so that what it starts can be ended with it
            )
    except OSError as error:
        raise ReleaseError(f"{command[0]} cannot be started: {error.strerror}.") from error


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
    """Ask the whole group to end, then make it; at once when this is interrupted too.

    It is the group that has time, and not the command alone: a `release` further down ends what it runs in a session of its
    own.
    """
    try:
        _signal(process, signal.SIGTERM)
        latest = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < latest and (process.poll() is None or _signal(process, 0)):
            time.sleep(_GLANCE_SECONDS)
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether anything is left of the group that could get the signal."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # the latter from macOS, of what has ended and was not waited for
        return False
    return True
