"""The programs of rivals: each ends in time, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

TIMEOUT_S = 600

_STOPS = (signal.SIGTERM, signal.SIGHUP)


def start(command: Sequence[str], *, stdin: int, stdout: int | IO[Any], stderr: int | IO[Any]) -> subprocess.Popen[str]:
    """Start a program in a session of its own, so that `kill` reaches what it starts in turn.

    The terminal's signals do not: who starts it has to end it, whatever happens. While it is being started nobody could,
    so signals wait for that.
    """
    child = None
    try:
        with _signals_held():
            child = subprocess.Popen(  # noqa: S603  a program that the user chose
                command, stdin=stdin, stdout=stdout, stderr=stderr, text=True, start_new_session=True
            )
    except BaseException:
        if child is not None:
            kill(child)
            child.wait()
        raise
    return child


def kill(child: subprocess.Popen[str]) -> None:
    """End a child and all that it has started; one that has ended already is left alone."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: no permission for one that only waits to be reaped
            os.killpg(child.pid, signal.SIGKILL)


@contextmanager
def deadline(child: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kill the child if the block takes longer than that; then the event is set.

    Whatever waits for the child in the block comes to its end by that, as it would if the child had crashed.
    """
    passed = threading.Event()

    def end() -> None:
        passed.set()
        kill(child)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield passed
    finally:
        timer.cancel()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Leave the block as by an interrupt when the system asks the program to end, so that it ends its children.

    The exit status is a shell's way of saying which signal it was: 128 and the signal's number.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for other in _STOPS:  # a second one must not end the tidying up
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    with _handled(_STOPS, stop):
        yield


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let a signal wait until the end of the block."""
    came: list[int] = []
    try:
        with _handled((signal.SIGINT, *_STOPS), lambda number, _: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


@contextmanager
def _handled(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals in the block, but none that is ignored: `nohup` wants it so."""
    is_main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    before = {number: signal.getsignal(number) for number in numbers if is_main}
    ours = {number: was for number, was in before.items() if was not in {None, signal.SIG_IGN}}
    try:
        for number in ours:
            signal.signal(number, handler)
        yield
    finally:
        for number, was in ours.items():
            signal.signal(number, was)
