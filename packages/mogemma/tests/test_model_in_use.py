"""A model while it works: several threads, Ctrl-C, close() from elsewhere, a fork, the end of the process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder

from mogemma import CancelledError, EmbeddingModel, ModelClosedError, SyncGemmaModel
from mogemma._native import Cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROMPTS = [[2, 300 + i, *range(20 + i, 90 + i)] for i in range(4)]
AT_ONCE = 2.0
"""Seconds within which a call ends that is told to; it takes milliseconds, on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def endless_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for a generation of minutes."""
    return copy_folder(GEMMA, tmp_path_factory.mktemp("endless") / "model", {"max_position_embeddings": 1 << 17})


@pytest.fixture
def endless(endless_path: Path) -> Iterator[SyncGemmaModel]:
    with SyncGemmaModel(endless_path, threads=2) as model:
        yield model


@contextmanager
def in_a_moment(action: Callable[[], object]) -> Iterator[list[float]]:
    """Do it from another thread when 0.1 s have passed, and note when."""
    times: list[float] = []

    def act() -> None:
        times.append(time.perf_counter())
        action()

    timer = threading.Timer(0.1, act)
    timer.start()
    try:
        yield times
    finally:
        timer.join()


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program of its own, which must end by itself."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_threads_that_write_at_once_get_what_they_get_alone() -> None:
    with SyncGemmaModel(GEMMA, threads=2) as model:
        alone = [model.complete(prompt, max_tokens=30, seed=1).token_ids for prompt in PROMPTS]
        with ThreadPoolExecutor(len(PROMPTS)) as threads:
            together = threads.map(lambda prompt: model.complete(prompt, max_tokens=30, seed=1).token_ids, PROMPTS * 5)
            assert list(together) == alone * 5


def test_threads_that_do_different_things_at_once_get_what_they_get_alone() -> None:
    with SyncGemmaModel(GEMMA, threads=2) as model:
        uses: list[Callable[[], object]] = [
            lambda: model.generate("Once", max_tokens=20, seed=2),
            lambda: "".join(model.generate_stream("upon", max_tokens=20, seed=2)),
            lambda: model.chat([{"role": "user", "content": "a time"}], max_tokens=20, seed=2).text,
            lambda: model.logits(PROMPTS[0]).tobytes(),
            lambda: model.score(PROMPTS[1]).tobytes(),
            lambda: model.count_tokens("there was"),
        ]
        alone = [use() for use in uses]
        with ThreadPoolExecutor(len(uses)) as threads:
            assert [future.result() for future in [threads.submit(use) for use in uses * 5]] == alone * 5


def test_threads_that_embed_at_once_get_what_they_get_alone() -> None:
    with EmbeddingModel(EMBEDDING_GEMMA, threads=2) as model:
        texts = [f"text {'again ' * i}" for i in range(8)]
        alone = [model.embed(text) for text in texts]
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(model.embed, texts * 5))
        assert np.array_equal(together, alone * 5)


def test_the_first_text_may_come_from_several_threads_at_once() -> None:
    """The vocabulary is read when it is first needed."""
    with SyncGemmaModel(GEMMA / "model.gguf", threads=1) as model, ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(model.count_tokens, ["Once upon a time"] * 8))) == 1


def test_close_while_another_thread_writes_ends_its_call_with_an_error(endless: SyncGemmaModel) -> None:
    with in_a_moment(endless.close) as times, pytest.raises(ModelClosedError, match="closed"):
        endless.complete([2], stop_ids=())
    assert time.perf_counter() - times[0] < AT_ONCE


def test_close_while_another_thread_embeds_ends_its_call_with_an_error() -> None:
    model = EmbeddingModel(EMBEDDING_GEMMA, threads=2, batch_tokens=256)
    with in_a_moment(model.close), pytest.raises(ModelClosedError, match="closed"):
        model.embed([[2, 7, 8, 1]] * 1_000_000)


def test_two_threads_may_close_a_model(endless_path: Path) -> None:
    for _ in range(20):
        model = SyncGemmaModel(endless_path, threads=2)
        with ThreadPoolExecutor(3) as threads:
            writing = threads.submit(model.complete, [2], stop_ids=())
            for closing in [threads.submit(model.close) for _ in range(2)]:
                closing.result()
            with pytest.raises(ModelClosedError):
                writing.result()


def test_another_thread_can_cancel_a_generation_and_the_model_stays_usable(endless: SyncGemmaModel) -> None:
    cancel = Cancel()
    writing = endless.generation([2], stop_ids=(), cancel=cancel)
    with writing as generation, in_a_moment(cancel.set) as times, pytest.raises(CancelledError):
        generation.finish()
    assert time.perf_counter() - times[0] < AT_ONCE
    assert_usable(endless)


def assert_usable(model: SyncGemmaModel) -> None:
    """It says what a fresh one says."""
    with SyncGemmaModel(GEMMA, threads=1) as fresh:
        for prompt in PROMPTS[:2]:
            expected = fresh.complete(prompt, max_tokens=10, seed=3, logprobs=2)
            found = model.complete(prompt, max_tokens=10, seed=3, logprobs=2)
            assert (found.text, found.logprobs) == (expected.text, expected.logprobs)


def test_ctrl_c_during_decode_ends_it_at_once_and_leaves_the_model_usable(endless: SyncGemmaModel) -> None:
    for _ in range(3):
        with in_a_moment(lambda: os.kill(os.getpid(), signal.SIGINT)) as times, pytest.raises(KeyboardInterrupt):
            endless.complete([2], stop_ids=())
        assert time.perf_counter() - times[0] < AT_ONCE
        assert_usable(endless)


def test_ctrl_c_during_prefill_ends_it_at_once_and_leaves_the_model_usable(endless: SyncGemmaModel) -> None:
    chunks: list[int] = []

    def interrupt(done: int, _total: int) -> None:
        chunks.append(done)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        endless.complete([2, *PROMPTS[0]] * 100, on_progress=interrupt)
    assert len(chunks) == 1
    assert_usable(endless)


def test_ctrl_c_while_a_stream_is_read_leaves_the_model_usable(endless: SyncGemmaModel) -> None:
    with in_a_moment(lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        "".join(endless.generate_stream(PROMPTS[0], logit_bias={1: -math.inf, 9: -math.inf}))
    assert_usable(endless)


FORKED = """
import os, sys, warnings
from mogemma import EmbeddingModel, ModelClosedError, SyncGemmaModel
warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
gemma, embedding_gemma = sys.argv[1:]
writer, embedder = SyncGemmaModel(gemma, threads=2), EmbeddingModel(embedding_gemma, threads=2)
stream = writer.generate_stream("Once", seed=1, max_tokens=20)
before = next(stream)
expected = writer.generate("Hello", seed=1, max_tokens=9), embedder.embed("Hello").tolist()

def in_child():
    uses = [
        lambda: writer.generate("Hello"),
        lambda: writer.logits([2]),
        lambda: next(stream),
        lambda: embedder.embed("Hello"),
    ]
    for use in uses:
        try:
            use()
        except ModelClosedError as error:
            assert "before a fork" in str(error) and "Load it in the child" in str(error)
        else:
            raise AssertionError("used in the child")
    with SyncGemmaModel(gemma, threads=2) as fresh:
        assert fresh.generate("Hello", seed=1, max_tokens=9) == expected[0]
    writer.close()
    embedder.close()

child = os.fork()
if child == 0:
    status = 1
    try:
        in_child()
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
assert (writer.generate("Hello", seed=1, max_tokens=9), embedder.embed("Hello").tolist()) == expected
assert writer.generate("Once", seed=1, max_tokens=20) == before + "".join(stream)
writer.close()
embedder.close()
print("ok")
"""


def test_a_model_in_a_forked_child_is_an_error_and_the_parents_goes_on() -> None:
    done = run(FORKED, GEMMA, EMBEDDING_GEMMA)
    assert (done.stdout, done.stderr) == ("ok\n", "")


FORKED_WHILE_BUSY = """
import os, sys, threading, warnings
from mogemma import ModelClosedError, SyncGemmaModel
warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
model = SyncGemmaModel(sys.argv[1], threads=2)
is_over = threading.Event()

def write():
    while not is_over.is_set():
        model.generate("Once", max_tokens=50)

writers = [threading.Thread(target=write) for _ in range(2)]
for writer in writers:
    writer.start()
statuses = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            model.generate("Hello")
        except ModelClosedError:
            model.close()
            os._exit(0)
        os._exit(1)
    statuses.append(os.waitpid(child, 0)[1])
is_over.set()
for writer in writers:
    writer.join()
print(set(statuses))
"""


def test_a_child_that_is_forked_while_the_model_works_does_not_hang() -> None:
    """Whoever held a lock at that moment is not there to release it."""
    done = run(FORKED_WHILE_BUSY, GEMMA)
    assert (done.stdout, done.stderr) == ("{0}\n", "")


DAEMON = """
import sys, threading, time
from mogemma import ModelClosedError, SyncGemmaModel
model = SyncGemmaModel(sys.argv[1], threads=2)

def write():
    try:
        while True:
            model.complete("Once", stop_ids=(), max_tokens=1000)
    except ModelClosedError:
        pass

for _ in range(2):
    threading.Thread(target=write, daemon=True).start()
time.sleep(0.1)
"""


def test_a_process_may_end_while_a_daemon_thread_writes(endless_path: Path) -> None:
    for _ in range(3):
        done = run(DAEMON, endless_path)
        assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import sys
from mogemma import SyncGemmaModel
with SyncGemmaModel(sys.argv[1], threads=2) as model:
    print("ready", flush=True)
    model.complete("Once", stop_ids=())
"""


def test_ctrl_c_ends_a_program_that_writes(endless_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(endless_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=10)
    assert program.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
