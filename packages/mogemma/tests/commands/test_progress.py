"""Who waits at a terminal sees how far the work is; nobody else sees anything."""

from __future__ import annotations

import io
import sys
import time

import pytest

from mogemma.commands import progress
from mogemma.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def put(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    """In the place of standard error, before somebody who waits no longer than a moment."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE", 0.05)


def test_long_work_shows_a_bar_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, terminal := Terminal())
    with Progress("Embedding") as bar:
        bar(3, 10)
        deadline = time.monotonic() + 10
        while "3/10" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    shown = terminal.getvalue()
    assert "Embedding" in shown
    assert "3/10" in shown
    assert shown.rindex("\x1b[2K") > shown.rindex("3/10")  # the line is erased at the end
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # and the cursor is back


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, terminal := Terminal())
    with Progress("Embedding") as bar:
        bar(10, 10)
    time.sleep(0.2)
    assert terminal.getvalue() == ""


def test_without_a_terminal_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, stream := io.StringIO())
    with Progress("Embedding") as bar:
        bar(3, 10)
        time.sleep(0.2)
    assert stream.getvalue() == ""
