"""Ctrl-C ends a forward pass that is under way, however long it takes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._native import Cancel


@contextmanager
def interruptible() -> Iterator[Cancel]:
    """A flag for `cancel=` that Ctrl-C sets.

    Python's own KeyboardInterrupt waits until the kernels return. But its signal handler writes to a file at once, in whatever
    thread it runs; another thread reads that and sets the flag, the kernels return, and KeyboardInterrupt is raised as ever.
    """
    from .._native import Cancel  # noqa: PLC0415  loads the kernels

    cancel = Cancel()
    if threading.current_thread() is not threading.main_thread():  # where Python handles no signals
        yield cancel
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_watch, args=(reader, cancel), name="mogemma-interrupt", daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield cancel
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int, cancel: Cancel) -> None:
    """Set the flag when an interrupt is reported; end when the other side is closed."""
    while caught := os.read(reader, 1):
        if caught[0] == signal.SIGINT:
            cancel.set()
