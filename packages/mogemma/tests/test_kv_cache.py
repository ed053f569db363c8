"""Going back by more tokens than the rings of sliding windows hold: never a bit of difference, and little memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, TINY

from mogemma import kv_cache
from mogemma._native import Cancel, Memory, SequenceRun
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import CancelledError, OutOfMemoryError
from mogemma.kv_cache import layer_caches
from mogemma.session import Runner, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from blocks import Floats

WINDOWED = ["gemma2", "gemma3-text", "gemma3-qpas", "gemma3n-text", "gemma4-dense", "gemma4-e2b", "gemma4-moe"]
"""With windows of 5 or 8; Gemma 3n and 4 E2B have layers that read the keys of others."""

CALL = 8
"""Tokens of a call. Then a ring has 32 slots, and is good for 24 or 27 tokens back."""

PROMPT, ANSWER = 60, 100

every_family = pytest.mark.parametrize("case", WINDOWED)
every_cache = pytest.mark.parametrize("cache", ["f32", "f16", "bf16"])


@contextmanager
def opened(case: str | Path, **options: Any) -> Iterator[Runner]:
    with (
        open_checkpoint(TINY / case) as checkpoint,
        Runner(checkpoint, **{"threads": 1, "max_tokens": CALL, **options}) as runner,
    ):
        yield runner


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with opened(GEMMA) as runner:
        yield runner


@pytest.fixture
def session(runner: Runner) -> Iterator[Session]:
    session = Session(runner)
    yield session
    session.close()


def text(n: int, seed: int = 0) -> list[int]:
    return [2, *np.random.default_rng(seed).integers(10, 500, n - 1).tolist()]


def fresh_logits(runner: Runner, ids: Sequence[int]) -> Floats:
    """Of every token, by a session of its own."""
    session = Session(runner)
    logits = session.logits(ids)
    session.close()
    return logits


def answer(session: Session, prompt: Sequence[int], tokens: Sequence[int]) -> int:
    """Read a prompt and write an answer as the loop does; how many tokens were kept for it."""
    n_cached = session.reuse(prompt)
    session.prefill(prompt[n_cached:])
    for token in tokens:
        session.decode(token)
    return n_cached


# --- the layout is the kernels'


@pytest.mark.parametrize("case", [*WINDOWED, "gemma1-mha", "gemma1-mqa", "gemma2-qpas", EMBEDDING_GEMMA])
@every_cache
@pytest.mark.parametrize(("context", "max_tokens"), [(256, 256), (256, 8), (101, 3), (20, 256), (1, 1)])
def test_layers_take_together_what_the_kernels_ask_for(case: str, cache: str, context: int, max_tokens: int) -> None:
    with opened(case, cache=cache, context=context, max_tokens=max_tokens) as runner:
        layers = layer_caches(
            runner.spec,
            context=context,
            max_tokens=runner.engine.max_tokens,
            number_bytes=4 if cache == "f32" else 2,
        )
        assert sum(layer.n_bytes for layer in layers) == runner.engine.cache_bytes


@pytest.mark.parametrize("case", WINDOWED)
def test_each_layer_writes_its_keys_and_values_where_they_are_said_to_be(case: str) -> None:
    """The first token of a text: something is written in each layer's part, and nothing behind its slots in another's."""
    with opened(case, cache="f32") as runner:
        cache = runner.engine.new_cache()
        runner.engine.forward([SequenceRun(np.array([2], np.int32), cache)])
        layers = layer_caches(runner.spec, context=runner.context, max_tokens=CALL, number_bytes=4)
        kept = np.frombuffer(runner.engine.kernel.ffi.buffer(cache.pointer, cache.n_bytes), np.float32).copy()
        cache.close()
    for layer, spec in zip(layers, runner.spec.layers, strict=True):
        numbers = kept[layer.start // 4 : (layer.start + layer.n_bytes) // 4]
        expected = 0 if spec.kv_back else 2 * spec.n_kv_heads * spec.head_dim
        assert np.count_nonzero(numbers) == expected


# --- nothing is changed by it


@every_family
@every_cache
def test_after_a_long_answer_a_session_goes_back_to_the_prompt_as_if_it_were_fresh(case: str, cache: str) -> None:
    """To each position at the prompt's end and in the answer: what comes then is the same to the bit, or it is refused."""
    other = text(40, seed=1)
    with opened(case, cache=cache) as runner:
        done = []
        for position in range(PROMPT - CALL, PROMPT + ANSWER, 3):
            session = Session(runner)
            answer(session, text(PROMPT), text(PROMPT + ANSWER)[PROMPT:])
            if session.rewind(position):
                done.append(position)
                expected = fresh_logits(runner, text(PROMPT + ANSWER)[:position] + other)
                assert np.array_equal(session.logits(other), expected[position:])
            session.close()
    assert {PROMPT - 2, PROMPT + 1} <= set(done)
    assert len(done) < (CALL + ANSWER) // 3, "some were lost, or nothing was tried"


@every_family
@pytest.mark.parametrize("max_tokens", [1, 2, CALL, 30])
def test_a_prompt_is_kept_whatever_the_size_of_a_call(case: str, max_tokens: int) -> None:
    with opened(case, max_tokens=max_tokens) as runner:
        session = Session(runner)
        expected = fresh_logits(runner, text(PROMPT))[-1]
        for turn in range(3):
            assert answer(session, text(PROMPT), []) == (PROMPT - 1 if turn else 0)
            assert np.array_equal(session._logits[0], expected)
            for token in text(ANSWER, seed=turn):
                session.decode(token)
        session.close()


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_prompts_and_answers_is_as_by_fresh_sessions(runner: Runner, session: Session, seed: int) -> None:
    """Prompts that begin alike, some of them with an earlier answer; calls that are cancelled; long and short ones."""
    rng = np.random.default_rng(seed)
    n_kept, past = 0, text(150, seed=7)
    for _ in range(40):
        n_common, n_new, way = (int(rng.integers(1, n)) for n in (len(past), 12, 4))
        prompt = past[: min(n_common, 150)] + text(n_new, seed=way)
        n_cached = session.reuse(prompt)
        n_kept += n_cached
        assert session.token_ids == prompt[:n_cached]
        expected = fresh_logits(runner, [*prompt, *text(80)])
        if rng.random() < 0.2:
            cancel = Cancel()
            cancel.set()
            with pytest.raises(CancelledError):
                session.prefill(prompt[n_cached:], cancel=cancel)
            assert session.position < len(prompt)
        else:
            assert np.array_equal(session.prefill(prompt[n_cached:]), expected[len(prompt) - 1])
            for i, token in enumerate(text(80)[: int(rng.integers(80))]):
                assert np.array_equal(session.decode(token), expected[len(prompt) + i])
        if rng.random() < 0.7:
            past = [*session.token_ids, *past[session.position :]]
    assert n_kept > 500


def test_a_copy_is_good_up_to_where_another_text_began(runner: Runner, session: Session) -> None:
    """It holds some tokens of the first answer, which the second prompt replaces; the rings have lost both of them."""
    copied = PROMPT + CALL // 4
    second = [*text(PROMPT)[:-1], *text(40, seed=2)]
    third = [*second[: copied + 1], *text(5, seed=3)[1:]]
    answer(session, text(PROMPT), text(ANSWER, seed=4))
    assert answer(session, second, []) == PROMPT - 1
    assert answer(session, third, []) == PROMPT - 1
    assert np.array_equal(session._logits[0], fresh_logits(runner, third)[-1])


# --- how much is kept


def test_regenerating_an_answer_computes_one_token(session: Session) -> None:
    for turn in range(3):
        assert answer(session, text(PROMPT), text(ANSWER, seed=turn)) == (PROMPT - 1 if turn else 0)


def test_a_last_message_that_was_edited_is_all_that_is_computed(session: Session) -> None:
    edited = [*text(PROMPT)[:-5], *text(9, seed=4)]
    answer(session, text(PROMPT), text(ANSWER))
    assert answer(session, edited, text(ANSWER)) == PROMPT - 5
    assert answer(session, text(PROMPT), []) == PROMPT - 5


def test_each_turn_of_a_chat_whose_answers_are_not_repeated_is_kept(session: Session) -> None:
    """Thoughts are left out by most templates: the next prompt goes another way where the answer began."""
    prompt = text(PROMPT)
    for turn in range(3):
        assert answer(session, prompt, text(50, seed=turn)) == (len(prompt) - 20 if turn else 0)
        prompt = [*prompt, *text(21, seed=10 + turn)[1:]]


def test_what_is_in_common_beyond_the_copy_is_computed_from_there(session: Session) -> None:
    """Half of an answer, edited: less is computed than the whole prompt."""
    written = text(ANSWER)
    answer(session, text(PROMPT), written)
    n_cached = answer(session, [*text(PROMPT), *written[:50], 7, 8, 9], [])
    assert n_cached == PROMPT + CALL // 4


def test_the_end_of_an_answer_is_kept_without_the_copy(session: Session) -> None:
    answer(session, text(PROMPT), text(ANSWER))
    assert answer(session, [*text(PROMPT), *text(ANSWER)[:-3], 7], []) == PROMPT + ANSWER - 3


def test_a_prompt_that_adds_a_single_token_begins_an_answer_too(session: Session) -> None:
    answer(session, text(PROMPT), text(ANSWER))
    longer = [*text(PROMPT), *text(ANSWER), 7]
    assert answer(session, longer, text(50, seed=2)) == PROMPT + ANSWER
    assert answer(session, longer, []) == PROMPT + ANSWER


# --- what it costs


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the copies within memory, as they are made."""
    sizes: list[int] = []
    write = Memory.write

    def counted(self: Memory, at: int, source: Memory, start: int, n_bytes: int) -> None:
        sizes.append(n_bytes)
        write(self, at, source, start, n_bytes)

    monkeypatch.setattr(Memory, "write", counted)
    return sizes


@pytest.mark.parametrize(
    ("case", "n_prompt", "n_answer"),
    [("gemma3-text", PROMPT, 2), ("gemma3-text", 10, 22), ("gemma1-mha", PROMPT, ANSWER)],
    ids=["a short answer", "a short text", "no windows"],
)
def test_nothing_is_copied_where_nothing_would_be_lost(
    copied: list[int], case: str, n_prompt: int, n_answer: int
) -> None:
    with opened(case) as runner:
        session = Session(runner)
        answer(session, text(n_prompt), text(n_answer))
        assert answer(session, text(n_prompt), []) == n_prompt - 1
        session.close()
    assert copied == []


def test_an_answer_costs_one_copy_of_the_windows(copied: list[int], runner: Runner, session: Session) -> None:
    answer(session, text(PROMPT), text(ANSWER))
    layers = layer_caches(runner.spec, context=runner.context, max_tokens=CALL, number_bytes=2)
    assert copied == [layer.n_bytes for layer in layers if layer.n_slots < runner.context]


def no_memory(*_: object, **__: object) -> None:
    raise OutOfMemoryError("none")


@pytest.mark.parametrize(
    ("name", "stand_in"), [("Memory", no_memory), ("available_memory", lambda: 1000)], ids=["refused", "nearly full"]
)
def test_going_back_where_there_is_no_memory_for_a_copy_computes_the_prompt(
    runner: Runner, session: Session, monkeypatch: pytest.MonkeyPatch, name: str, stand_in: Callable[..., Any]
) -> None:
    monkeypatch.setattr(kv_cache, name, stand_in)
    answer(session, text(PROMPT), text(ANSWER))
    assert not session.rewind(PROMPT - 1)
    assert answer(session, text(PROMPT), []) == 0
    assert np.array_equal(session._logits[0], fresh_logits(runner, text(PROMPT))[-1])


@pytest.mark.parametrize("n_done", [0, 1, 3])
def test_an_interrupt_while_rings_are_copied_leaves_no_wrong_ones(
    runner: Runner, session: Session, monkeypatch: pytest.MonkeyPatch, n_done: int
) -> None:
    """Ctrl-C between two layers: on the way to the copy, and on the way back."""
    write, done = Memory.write, [0]

    def interrupted(self: Memory, at: int, source: Memory, start: int, n_bytes: int) -> None:
        done[0] += 1
        if done[0] > n_done:
            raise KeyboardInterrupt
        write(self, at, source, start, n_bytes)

    expected = fresh_logits(runner, text(PROMPT))[-1]
    answer(session, text(PROMPT, seed=5), text(ANSWER, seed=5))
    with monkeypatch.context() as patch:
        patch.setattr(Memory, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.reuse(text(PROMPT, seed=5))
        assert session.position == 0
        done[0] = 0
        with pytest.raises(KeyboardInterrupt):
            answer(session, text(PROMPT), text(ANSWER))
        assert session.position == PROMPT + CALL // 4
    for token in text(ANSWER):
        session.decode(token)
    assert answer(session, text(PROMPT), []) == PROMPT - 1
    assert np.array_equal(session._logits[0], expected)


def test_a_session_keeps_one_copy_however_many_answers_and_gives_it_back(runner: Runner) -> None:
    session = Session(runner)
    copies = set()
    for turn in range(3):
        answer(session, text(PROMPT + turn), text(ANSWER, seed=turn))
        copies.add(session._rings._copy)
    session.close()
    session.close()
    (copy,) = copies
    assert copy is not None
    assert copy.n_bytes < runner.engine.cache_bytes
    assert copy._map.closed
