from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mogemma_release import process
from mogemma_release.errors import ReleaseError
from mogemma_release.process import run
from mogemma_release.signals import Stopped, stopped_by_signals


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_goes_to_the_log_and_the_listener_as_it_comes(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr)"
    ran = run(python(code), tmp_path, tmp_path / "log", limit_seconds=60, listen=lines.append)
    assert lines == ["one", "two"]
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert ran.passed
    assert ran.started <= ran.ended


def test_a_failing_command_has_its_own_status(tmp_path: Path) -> None:
    ran = run(python("raise SystemExit(7)"), tmp_path, tmp_path / "log", limit_seconds=60)
    assert (ran.exit_status, ran.passed) == (7, False)


def test_a_hanging_command_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A grandchild that holds the pipe would otherwise keep the release waiting for ever."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    start = time.monotonic()
    ran = run(python(code), tmp_path, tmp_path / "log", limit_seconds=1)
    assert time.monotonic() - start < 30
    assert ran.timed_out
    assert not ran.passed


def test_a_command_that_ignores_the_signal_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    ran = run(python(code), tmp_path, tmp_path / "log", limit_seconds=1)
    assert (ran.timed_out, ran.exit_status) == (True, 128 + 9)


def test_what_a_command_started_has_time_to_end_though_the_command_is_gone(tmp_path: Path) -> None:
    """Otherwise a release command in a step could not end what it runs in a session of its own."""
    code = "(trap 'sleep 0.5; touch tidied; exit' TERM; sleep 600 & wait) & wait"
    assert run(["bash", "-c", code], tmp_path, tmp_path / "log", limit_seconds=1).timed_out
    assert (tmp_path / "tidied").exists()


def test_a_second_interrupt_ends_a_command_that_will_not(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )

    def interrupt(_: str) -> None:
        threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(python(code), tmp_path, tmp_path / "log", limit_seconds=60, listen=interrupt)
    assert time.monotonic() - start < process.GRACE_SECONDS


def test_a_signal_while_a_command_starts_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(Stopped) as stop, stopped_by_signals():
        run(["sleep", "600"], tmp_path, tmp_path / "log", limit_seconds=60)
    assert stop.value.number == signal.SIGTERM
    assert started[0].wait(5) == -signal.SIGTERM


def test_a_command_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no-such-program cannot be started"):
        run(["no-such-program"], tmp_path, tmp_path / "log", limit_seconds=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full disk to try")
def test_a_full_disk_ends_the_command_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="/dev/full cannot be written: No space left"):
        run(python("print('x' * 100_000)"), tmp_path, Path("/dev/full"), limit_seconds=60)
