"""Prefill and decode against golden logits; and that no way of running a sequence changes a bit of its logits."""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference
from checkpoints import copy_folder, copy_gguf

from mogemma._native import Cancel, runnable_levels
from mogemma.checkpoint import open_checkpoint
from mogemma.errors import (
    CancelledError,
    ConfigError,
    ContextFullError,
    ModelClosedError,
    ModelFormatError,
    OutOfMemoryError,
    TokenizerError,
    UnsupportedModelError,
)
from mogemma.session import Runner, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from blocks import Floats
    from numpy.typing import NDArray

VOCAB = 512
CONTEXT = 256
"""Of the tiny models; gemma3-text has windows of 8, so their rings go round many times."""

every_arithmetic = pytest.mark.parametrize("arithmetic", ["int8", "float32"])
every_cache = pytest.mark.parametrize("cache", ["f32", "f16", "bf16"])

EXACT: dict[str, Any] = {"arithmetic": "float32", "cache": "f32"}


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Runner]:
    options.setdefault("threads", 1)
    with open_checkpoint(path) as checkpoint, Runner(checkpoint, **options) as runner:
        yield runner


@pytest.fixture(scope="module")
def tiny(data_path: Path) -> Path:
    return data_path / "tiny"


@pytest.fixture(scope="module")
def quant_zoo(tiny: Path) -> Path:
    """Fifteen block types in one model, so that int8 arithmetic has something to do."""
    return tiny / "quant-zoo" / "model.gguf"


@pytest.fixture
def legacy_folder(tiny: Path, tmp_path: Path) -> Path:
    """The same model with the config.json of transformers 4."""
    shutil.copy(tiny / "gemma3-text" / "config.legacy.json", tmp_path / "config.json")
    shutil.copy(tiny / "gemma3-text" / "model.safetensors", tmp_path)
    return tmp_path


def golden(tiny: Path, case: str) -> dict[str, NDArray[Any]]:
    with np.load(tiny / case / "golden.npz") as arrays:
        return dict(arrays)


def text(n: int = CONTEXT, seed: int = 0) -> list[int]:
    return [2, *np.random.default_rng(seed).integers(4, VOCAB, n - 1).tolist()]


def whole_logits(runner: Runner, ids: Sequence[int]) -> Floats:
    """Of every token, by prefill in the largest chunks."""
    session = Session(runner)
    logits = session.logits(ids)
    session.close()
    return logits


# --- golden outputs of the reference implementation


@pytest.mark.parametrize("case", ["gemma3-text/model.gguf", "gemma3-text", "gemma3-qpas", "quant-zoo/model.gguf"])
def test_float32_logits_are_those_of_the_reference_implementation(tiny: Path, level: str, case: str) -> None:
    expected = golden(tiny, case.partition("/")[0])
    with opened(tiny / case, **EXACT, level=level) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


def test_a_configuration_in_the_older_spelling_gives_the_same_logits(tiny: Path, legacy_folder: Path) -> None:
    ids = golden(tiny, "gemma3-text")["input_ids"].tolist()
    with opened(tiny / "gemma3-text", **EXACT) as new, opened(legacy_folder, **EXACT) as old:
        assert np.array_equal(whole_logits(old, ids), whole_logits(new, ids))


@pytest.mark.parametrize("case", ["gemma3-text/model.gguf", "gemma3-text", "gemma3-qpas"])
def test_greedy_decoding_takes_the_tokens_of_the_reference_implementation(tiny: Path, level: str, case: str) -> None:
    expected = golden(tiny, case.partition("/")[0])
    with opened(tiny / case, **EXACT, level=level) as runner:
        session = Session(runner)
        logits = session.prefill(expected["input_ids"].tolist())
        taken = []
        for _ in expected["greedy_ids"]:
            taken.append(int(logits.argmax()))
            logits = session.decode(taken[-1])
        session.close()
    assert taken == expected["greedy_ids"].tolist()


@pytest.mark.parametrize(("cache", "bound"), [("f16", 2**-11), ("bf16", 2**-8)])
def test_a_smaller_cache_costs_a_rounding_of_keys_and_values(tiny: Path, level: str, cache: str, bound: float) -> None:
    """Relative to the logits, whose rounding is of the same kind, with a margin of 4 for what seven layers add up."""
    expected = golden(tiny, "gemma3-text")
    with opened(tiny / "gemma3-text", arithmetic="float32", cache=cache, level=level) as runner:
        error = np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max()
    assert error < 4 * bound * np.abs(expected["logits"]).max()


def test_int8_logits_stay_near_those_of_the_reference_implementation(tiny: Path, level: str, quant_zoo: Path) -> None:
    """Each activation is off by at most 1/254 of the greatest beside it: a few hundredths of the logits' spread."""
    expected = golden(tiny, "quant-zoo")
    with opened(quant_zoo, arithmetic="int8", cache="f32", level=level) as runner:
        logits = whole_logits(runner, expected["input_ids"].tolist())
    error = np.abs(logits - expected["logits"])
    assert error.max() < 0.15 * expected["logits"].std()
    assert np.sqrt((error**2).mean()) < 0.03 * expected["logits"].std()
    assert np.mean(logits.argmax(axis=1) == expected["logits"].argmax(axis=1)) >= 0.95


@pytest.mark.parametrize("case", ["gemma3-text", "gemma3-qpas"])
def test_the_plain_forward_pass_of_these_tests_is_right(tiny: Path, case: str) -> None:
    """It stands in for the reference implementation where there is no golden output."""
    expected = golden(tiny, case)
    model = reference.read_gemma3(tiny / case)
    assert np.abs(reference.logits(model, expected["input_ids"]) - expected["logits"]).max() < 5e-5


@pytest.mark.parametrize("case", ["gemma3-text", "gemma3-qpas"])
@pytest.mark.parametrize("max_tokens", [7, 256])
def test_windows_that_slide_far_past_their_ring_see_the_right_keys(
    tiny: Path, level: str, case: str, max_tokens: int
) -> None:
    expected = reference.logits(reference.read_gemma3(tiny / case), text())
    with opened(tiny / case, **EXACT, level=level, max_tokens=max_tokens) as runner:
        assert np.abs(whole_logits(runner, text()) - expected).max() < 1e-4


# --- what must not change a bit


@every_arithmetic
@every_cache
def test_decoding_token_by_token_is_prefill_to_the_bit(
    level: str, quant_zoo: Path, arithmetic: str, cache: str
) -> None:
    with opened(quant_zoo, arithmetic=arithmetic, cache=cache, level=level) as runner:
        expected = whole_logits(runner, text(100))
        session = Session(runner)
        logits = [session.decode(token).copy() for token in text(100)]
        session.close()
    assert np.array_equal(logits, expected)


@every_arithmetic
@every_cache
def test_the_size_of_prefill_chunks_does_not_change_a_bit(
    level: str, quant_zoo: Path, arithmetic: str, cache: str
) -> None:
    """A full context: rings of every size go round."""
    results = []
    for max_tokens in (256, 64, 7, 3, 1):
        with opened(quant_zoo, arithmetic=arithmetic, cache=cache, level=level, max_tokens=max_tokens) as runner:
            results.append(whole_logits(runner, text()))
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@every_arithmetic
def test_the_number_of_threads_does_not_change_a_bit(level: str, quant_zoo: Path, arithmetic: str) -> None:
    with ExitStack() as stack:
        one, two, three = (
            stack.enter_context(opened(quant_zoo, arithmetic=arithmetic, level=level, threads=n)) for n in (1, 2, 3)
        )
        expected = whole_logits(one, text(40))
        assert np.array_equal(whole_logits(two, text(40)), expected)
        assert np.array_equal(whole_logits(three, text(40)), expected)


def test_threads_that_share_out_a_long_context_do_not_change_a_bit(tiny: Path, level: str, tmp_path: Path) -> None:
    """From 1024 positions on, threads take segments of one head's keys, which are joined in order."""
    folder = copy_folder(tiny / "gemma3-text", tmp_path / "long", {"max_position_embeddings": 4096})
    ids = np.random.default_rng(5).integers(4, 500, 2100).tolist()
    with opened(folder, level=level, threads=1) as one, opened(folder, level=level, threads=2) as two:
        sessions = [Session(one), Session(two)]
        for session in sessions:
            session.prefill(ids)
        for token in ids[:5]:
            alone, together = (session.decode(token).copy() for session in sessions)
            assert np.array_equal(alone, together)


@every_arithmetic
@every_cache
def test_every_cpu_level_gives_the_same_bits(quant_zoo: Path, arithmetic: str, cache: str) -> None:
    """A text that one machine generates, another does too."""
    results = []
    for level in runnable_levels():
        with opened(quant_zoo, arithmetic=arithmetic, cache=cache, level=level) as runner:
            results.append(whole_logits(runner, text(100)))
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@every_arithmetic
def test_packed_weights_give_the_same_bits(level: str, quant_zoo: Path, arithmetic: str) -> None:
    with opened(quant_zoo, arithmetic=arithmetic, level=level, pack=False, threads=2) as stored:
        expected = whole_logits(stored, text(60))
        assert stored.packed_bytes == 0
    with opened(quant_zoo, arithmetic=arithmetic, level=level, pack=True, threads=2) as packed:
        assert np.array_equal(whole_logits(packed, text(60)), expected)
        assert packed.packed_bytes > 0


def test_prefill_is_the_last_row_of_the_logits(quant_zoo: Path, level: str) -> None:
    with opened(quant_zoo, level=level, max_tokens=16) as runner:
        expected = whole_logits(runner, text(50))
        session = Session(runner)
        assert np.array_equal(session.prefill(text(50)), expected[-1])
        session.close()


def test_sessions_of_one_runner_do_not_disturb_each_other(quant_zoo: Path, level: str) -> None:
    with opened(quant_zoo, level=level) as runner:
        texts = [text(30, seed) for seed in range(3)]
        expected = [whole_logits(runner, one) for one in texts]
        sessions = [Session(runner) for _ in texts]
        for position in range(30):
            for session, one, logits in zip(sessions, texts, expected, strict=True):
                assert np.array_equal(session.decode(one[position]), logits[position])


# --- rewinding


@pytest.mark.parametrize("max_tokens", [4, 16])
def test_after_a_rewind_the_logits_are_those_of_a_fresh_session(tiny: Path, level: str, max_tokens: int) -> None:
    """From every position, to every position: either they are right, or the rewind is refused."""
    with opened(tiny / "gemma3-text", level=level, max_tokens=max_tokens) as runner:
        expected = whole_logits(runner, text(61))
        for top in (1, 7, 13, 30, 60):
            for position in range(top + 1):
                session = Session(runner)
                session.prefill(text(61)[:top])
                is_done = session.rewind(position)
                assert is_done or top - position > max_tokens, "a chunk can always be taken back"
                assert session.position == (position if is_done else top)
                if is_done:
                    assert np.array_equal(session.logits(text(61)[position:]), expected[position:])
                session.close()


def test_two_rewinds_reach_no_further_back_than_one(tiny: Path, level: str) -> None:
    """What the first attempt overwrote in the ring is gone, wherever the position is now."""
    with opened(tiny / "gemma3-text", level=level, max_tokens=4) as runner:
        expected = whole_logits(runner, text(80))
        for first in range(50, 61):
            for second in range(40, first):
                session = Session(runner)
                session.prefill(text(60))
                if session.rewind(first) and session.rewind(second):
                    assert np.array_equal(session.logits(text(80)[second:]), expected[second:])
                session.close()


def test_a_rewind_after_a_cancelled_chunk_reaches_no_further_back(tiny: Path) -> None:
    """A chunk that is cancelled on its way has written into the ring already."""
    with opened(tiny / "gemma3-text", max_tokens=4) as runner:
        expected = whole_logits(runner, text(80))
        for position in range(40, 61):
            session = Session(runner)
            session.prefill(text(60))
            cancel = Cancel()
            cancel.set()
            with pytest.raises(CancelledError):
                session.prefill(text(80)[60:64], cancel=cancel)
            assert session.position == 60
            if session.rewind(position):
                assert np.array_equal(session.logits(text(80)[position:]), expected[position:])
            session.close()


def test_a_rewind_to_the_start_is_always_possible(tiny: Path) -> None:
    with opened(tiny / "gemma3-text", max_tokens=4) as runner:
        session = Session(runner)
        session.prefill(text(60, seed=1))
        assert session.rewind(0)
        assert np.array_equal(session.logits(text(60)), whole_logits(runner, text(60)))


@pytest.mark.parametrize("position", [-1, 11, 2**40])
def test_a_rewind_to_where_the_session_never_was_is_refused(tiny: Path, position: int) -> None:
    with opened(tiny / "gemma3-text") as runner:
        session = Session(runner)
        session.prefill(text(10))
        assert not session.rewind(position)
        assert session.position == 10


# --- the border


def test_a_full_context_is_an_error_with_both_numbers_and_nothing_is_computed(tiny: Path) -> None:
    with opened(tiny / "gemma3-text", context=20) as runner:
        session = Session(runner)
        session.prefill(text(18))
        with pytest.raises(ContextFullError, match=r"18 tokens are in the context and 3 more .* holds 20.* context=21"):
            session.prefill([5, 6, 7])
        assert session.position == 18
        session.prefill([5, 6])
        with pytest.raises(ContextFullError):
            session.decode(7)


def test_more_tokens_than_the_model_holds_are_not_answered_with_a_larger_context(tiny: Path) -> None:
    with opened(tiny / "gemma3-text", context=20) as runner:
        with pytest.raises(
            ContextFullError, match=r"do not fit: it holds 20\. .* this model holds at most 256"
        ) as caught:
            Session(runner).prefill([5] * 257)
        assert "load the model" not in str(caught.value)


@pytest.mark.parametrize("context", [0, -1, CONTEXT + 1])
def test_a_context_that_the_model_does_not_hold_is_refused(tiny: Path, context: int) -> None:
    with (
        pytest.raises(ConfigError, match=f"context={context} .* 1 to {CONTEXT}"),
        opened(tiny / "gemma3-text", context=context),
    ):
        pass


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_a_number_of_threads_out_of_range_is_refused(tiny: Path, threads: int) -> None:
    with (
        pytest.raises(ConfigError, match=f"threads={threads} .* 1 to 256"),
        opened(tiny / "gemma3-text", threads=threads),
    ):
        pass


@pytest.mark.parametrize(
    "ids", [[], [-1], [3, VOCAB], [2**40], [2**70], [1.5], ["a"], [[1, 2]], [[1], [2, 3]], [None], [True]]
)
def test_what_is_no_token_is_refused(tiny: Path, ids: list[Any]) -> None:
    with opened(tiny / "gemma3-text") as runner:
        session = Session(runner)
        with pytest.raises(TokenizerError):
            session.prefill(ids)
        assert session.position == 0


def test_a_cancelled_prefill_stops_after_a_whole_chunk_and_can_go_on(tiny: Path) -> None:
    cancel = Cancel()

    def after_two_chunks(done: int, _: int) -> None:
        if done == 20:
            cancel.set()

    with opened(tiny / "gemma3-text", max_tokens=10) as runner:
        session = Session(runner)
        with pytest.raises(CancelledError):
            session.prefill(text(45), cancel=cancel, on_progress=after_two_chunks)
        assert session.position == 20
        assert np.array_equal(session.prefill(text(45)[20:]), whole_logits(runner, text(45))[-1])


@pytest.mark.parametrize("run", [Session.prefill, Session.logits])
def test_progress_is_told_chunk_by_chunk(tiny: Path, run: Callable[..., Any]) -> None:
    told: list[tuple[int, int]] = []
    with opened(tiny / "gemma3-text", max_tokens=10) as runner:
        run(Session(runner), text(25), on_progress=lambda *done: told.append(done))
    assert told == [(10, 25), (20, 25), (25, 25)]


@pytest.mark.parametrize("available", [100 * VOCAB * 4, math.inf])
def test_logits_that_do_not_fit_into_memory_are_refused_before_anything_is_computed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, available: float
) -> None:
    """By what the system says is free, or by its own no, as under a limit of addresses."""

    def refuse(*_: Any) -> None:
        raise MemoryError

    with opened(tiny / "gemma3-text") as runner:
        session, ids = Session(runner), text(100)
        monkeypatch.setattr("mogemma.session.available_memory", lambda: available)
        with monkeypatch.context() as full:
            if available == math.inf:
                full.setattr("mogemma.session.np.empty", refuse)
            with pytest.raises(OutOfMemoryError, match=r"logits of 100 tokens take 0\.2 MB.*fewer tokens.*score\(\)"):
                session.logits(ids)
        assert session.position == 0
        assert session.logits(text(80)).shape == (80, VOCAB)


def test_logits_that_are_not_finite_end_the_call_with_their_chunk(tmp_path: Path, tiny: Path) -> None:
    """Not with the last of many."""
    damaged = {"output_norm.weight": np.full(40, np.nan, np.float32)}
    path = copy_gguf(tiny / "gemma3-text" / "model.gguf", tmp_path / "model.gguf", tensors=damaged)
    with opened(path, max_tokens=10) as runner:
        session = Session(runner)
        with pytest.raises(ModelFormatError, match="not finite"):
            session.logits(text(45))
        assert session.position == 10


def test_a_closed_session_or_model_is_an_error(tiny: Path) -> None:
    with opened(tiny / "gemma3-text") as runner:
        session, other = Session(runner), Session(runner)
        session.close()
        session.close()
        with pytest.raises(ModelClosedError):
            session.decode(5)
    with pytest.raises(ModelClosedError):
        other.decode(5)


def test_an_embedding_model_does_not_generate(tiny: Path) -> None:
    with opened(tiny / "embeddinggemma") as runner, pytest.raises(UnsupportedModelError, match="EmbeddingModel"):
        Session(runner)
