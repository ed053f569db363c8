"""Cancelling, closing, threads and processes: no crash, no hang, nothing left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from models import alone, logits_of, make_engine, make_model, token_ids

from mogemma._native import Cancel, Engine, SequenceRun
from mogemma.checkpoint import TensorType
from mogemma.errors import CancelledError, ModelClosedError

if TYPE_CHECKING:
    from blocks import Floats

STATUS = Path("/proc/self/status")


def test_a_cancelled_engine_can_be_used_again(engine: Engine) -> None:
    expected = alone(engine, token_ids(6))
    cancel = Cancel()
    cancel.set()
    with pytest.raises(CancelledError):
        logits_of(engine, SequenceRun(token_ids(6), n_outputs=6), cancel=cancel)
    assert np.array_equal(alone(engine, token_ids(6)), expected)


def test_what_was_in_the_cache_before_a_cancelled_call_is_still_there(level: str) -> None:
    """Also in a ring that is full: the tokens of the call go where the window does not reach."""
    engine = make_engine(make_model(n_before=5), level=level, max_tokens=8)
    text = token_ids(40)

    def run(first: int, last: int, cancel: Cancel | None = None) -> Floats:
        return logits_of(engine, SequenceRun(text[first:last], cache, first, n_outputs=1), cancel=cancel)

    cache = engine.new_cache()
    for first in range(0, 32, 8):
        run(first, first + 8)
    expected = run(32, 40)
    cancel = Cancel()
    cancel.set()
    with pytest.raises(CancelledError):
        run(32, 40, cancel)
    assert np.array_equal(run(32, 40), expected)


def slow_engine(n_threads: int = 2) -> tuple[Engine, SequenceRun]:
    """A call that takes about a second."""
    model = make_model(n_layers=24, hidden_dim=256, mlp_dim=2048, kind=TensorType.F32)
    engine = make_engine(model, n_threads=n_threads, max_tokens=1024, n_context=1024)
    return engine, SequenceRun(token_ids(1024), n_outputs=1)


def test_a_running_call_ends_soon_after_it_is_cancelled() -> None:
    engine, run = slow_engine()
    cancel = Cancel()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(logits_of, engine, run, cancel=cancel)
        time.sleep(0.05)
        cancel.set()
        with pytest.raises(CancelledError):
            call.result(timeout=60)
    engine.close()


def test_closing_waits_for_the_running_call_and_refuses_the_next() -> None:
    engine, run = slow_engine()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(logits_of, engine, run)
        wait_until_busy(engine)
        engine.close()
        assert np.all(np.isfinite(running.result(timeout=60)))
    with pytest.raises(ModelClosedError):
        logits_of(engine, run)


def wait_until_busy(engine: Engine) -> None:
    """Until another thread is in a call."""
    while engine.handle._lock.acquire(blocking=False):
        engine.handle._lock.release()
        time.sleep(0.001)


def test_a_call_that_waited_while_the_engine_was_closed_finds_it_closed() -> None:
    """It must not go on into memory that is gone."""
    for _ in range(20):
        engine = make_engine(n_threads=2)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call_again_and_again, engine) for _ in range(4)]
            time.sleep(0.005)
            engine.close()
            assert {type(call.exception(timeout=60)) for call in calls} == {ModelClosedError}


def call_again_and_again(engine: Engine) -> None:
    while True:
        alone(engine, token_ids(3))


def test_a_closed_engine_is_an_error_and_closing_twice_is_harmless(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(ModelClosedError, match="closed"):
        alone(engine, token_ids(1))


def test_several_threads_may_use_one_engine(engine: Engine) -> None:
    texts = [token_ids(9, seed) for seed in range(4)]
    expected = [alone(engine, text) for text in texts]

    def hammer(index: int) -> bool:
        cache = engine.new_cache()
        for _ in range(50):
            whole = logits_of(engine, SequenceRun(texts[index][:5], cache, 0, 5))
            rest = logits_of(engine, SequenceRun(texts[index][5:], cache, 5, 4))
            if not np.array_equal(np.concatenate([whole, rest]), expected[index]):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(hammer, range(4)))


def test_several_engines_may_run_at_once(level: str) -> None:
    expected = alone(make_engine(level=level), token_ids(9))

    def hammer(_: int) -> bool:
        own = make_engine(level=level, n_threads=2)
        same = all(np.array_equal(alone(own, token_ids(9)), expected) for _ in range(10))
        own.close()
        return same

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(hammer, range(6)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_gets_an_error_instead_of_a_hang(level: str) -> None:
    engine = make_engine(level=level, n_threads=2)
    expected = alone(engine, token_ids(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks with threads: that is the test
        child = os.fork()
    if child == 0:
        os._exit(what_a_child_sees(engine, level, expected))
    assert wait_for(child) == 0
    assert np.array_equal(alone(engine, token_ids(5)), expected)
    engine.close()


def what_a_child_sees(engine: Engine, level: str, expected: Floats) -> int:
    """0: the parent's engine is an error, closing it is harmless, and one of the child's own works."""
    try:
        alone(engine, token_ids(5))
    except ModelClosedError:
        engine.close()
        own = make_engine(level=level, n_threads=2)
        same = np.array_equal(alone(own, token_ids(5)), expected)
        own.close()
        return 0 if same else 2
    return 1


def wait_for(child: int) -> int:
    """The child's exit status; a child that hangs is ended."""
    for _ in range(600):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which Linux has")
def test_opening_and_closing_leaves_no_memory_and_no_thread_behind(level: str) -> None:
    def cycle() -> None:
        engine = make_engine(level=level, n_threads=3, max_tokens=256, n_context=4096)
        engine.forward([SequenceRun(token_ids(200), engine.new_cache())])
        engine.close()

    for _ in range(5):
        cycle()
    gc.collect()
    before = resident_kilobytes(), n_threads()
    for _ in range(50):
        cycle()
    gc.collect()
    assert n_threads() == before[1]
    assert resident_kilobytes() - before[0] < 4096


def test_a_forgotten_engine_ends_its_threads(level: str) -> None:
    before = n_threads() if STATUS.exists() else threading.active_count()
    engine = make_engine(level=level, n_threads=3)
    alone(engine, token_ids(2))
    del engine
    gc.collect()
    assert (n_threads() if STATUS.exists() else threading.active_count()) == before


def status_field(name: str) -> int:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(name)


def n_threads() -> int:
    return status_field("Threads")


def resident_kilobytes() -> int:
    return status_field("VmRSS")


def test_an_engine_may_have_more_threads_than_there_are_cores_or_pieces_of_work(level: str) -> None:
    expected = alone(make_engine(level=level), token_ids(1))
    engine = make_engine(level=level, n_threads=min(2 * (os.cpu_count() or 1), 16))
    assert np.array_equal(alone(engine, token_ids(1)), expected)
    engine.close()
