"""Ctrl-C reaches a computation that Python cannot interrupt."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mogemma._native import Cancel
from mogemma.commands.interrupt import interruptible


def test_ctrl_c_sets_the_flag_and_is_an_interrupt_as_ever() -> None:
    flags: list[Cancel] = []

    def work() -> None:
        with interruptible() as cancel:
            flags.append(cancel)
            assert not cancel.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert flags[0].is_set()


def test_other_signals_do_not_set_it() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with interruptible() as cancel:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.05)
            assert not cancel.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_it_leaves_nothing_behind() -> None:
    n_files, n_threads = len(os.listdir("/dev/fd")), threading.active_count()
    with interruptible():
        assert threading.active_count() == n_threads + 1
    assert (len(os.listdir("/dev/fd")), threading.active_count()) == (n_files, n_threads)
    assert signal.set_wakeup_fd(-1) == -1


def test_in_another_thread_it_is_a_flag_that_nothing_sets() -> None:
    """Python handles signals in the main thread alone."""
    found: list[bool] = []

    def work() -> None:
        with interruptible() as cancel:
            found.append(cancel.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=10)
    assert found == [False]
