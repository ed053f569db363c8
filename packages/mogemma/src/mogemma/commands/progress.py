"""How far a long piece of work is, for who is waiting at a terminal."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from .streams import is_terminal

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as Bar
    from typing_extensions import Self

PATIENCE = 1.0
"""Seconds of work before there is anything to see."""


class Progress:
    """A bar on standard error while the work lasts, if that is a terminal and the work is long; later there is no trace of it.

    Call it with what is done and what there is in all; `in_bytes` shows that as sizes, and how fast they come.
    """

    def __init__(self, work: str, *, in_bytes: bool = False) -> None:
        self._work = work
        self._in_bytes = in_bytes
        self._state: tuple[int, int | None] = (0, None)
        self._bar: Bar | None = None
        self._is_over = not is_terminal(sys.stderr)
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if not self._is_over:
            self._timer.start()
        return self

    def __call__(self, done: int, total: int | None) -> None:
        with self._lock:
            self._state = (done, total)
            self._update()

    def close(self) -> None:
        """Take the bar away; harmless when it is gone."""
        self._timer.cancel()
        with self._lock:
            self._is_over = True
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _show(self) -> None:
        from rich import progress  # noqa: PLC0415  only who waits needs it
        from rich.console import Console  # noqa: PLC0415  as above

        amounts = (progress.DownloadColumn(), progress.TransferSpeedColumn())
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            *(amounts if self._in_bytes else (progress.MofNCompleteColumn(),)),
            progress.TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        # Results go to standard output as they are, not through the bar.
        bar = progress.Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        with self._lock:
            if not self._is_over:
                self._bar = bar
                bar.add_task(self._work, total=None)
                self._update()
                bar.start()

    def _update(self) -> None:
        if self._bar is not None:
            done, total = self._state
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
