"""The loop, with a session that knows by heart what comes next."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import best_of

from mogemma._native import BestLogits, Cancel, Wanted
from mogemma.checkpoint import open_checkpoint
from mogemma.completion import Completion, Timings
from mogemma.config import SamplingConfig, resolve_sampling
from mogemma.errors import CancelledError, ConfigError, ContextFullError, ModelFormatError
from mogemma.generate import Generation
from mogemma.session import Runner
from mogemma.session import Session as ModelSession
from mogemma.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mogemma.generate import Session

DATA = Path(__file__).parent / "data"
VOCAB = 259
BOS, EOS, END_OF_TURN = 256, 257, 258
NOTHING = SamplingConfig()


class ByteTokenizer(Tokenizer):
    """Token n is the byte n; three control tokens come after them."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("the vocabulary is not read"))

    def token_bytes(self, token_id: Any, skip_special: bool = True) -> bytes:
        if token_id < 256:
            return bytes([token_id])
        return b"" if skip_special else [b"<bos>", b"<eos>", b"<end_of_turn>"][token_id - 256]


class ToySession:
    """After its first token it continues with the script, whatever the prompt is; further on with spaces.

    As the real session it owns one array of logits, which each call overwrites.
    """

    def __init__(self, script: Sequence[int] | bytes = b"", context: int = 1000, max_context: int = 1000) -> None:
        self.context = context
        self.max_context = max_context
        self.seen: list[int] = []
        self.calls: list[tuple[str, int]] = []
        self.before_decode: Callable[[], None] = lambda: None
        self.likeliest = 8.0
        self._script = list(script)
        self._n_prompt = 0
        self._logits = np.zeros(VOCAB, np.float32)

    @property
    def position(self) -> int:
        return len(self.seen)

    def prefill(
        self,
        token_ids: Sequence[int],
        *,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        if on_progress is not None:
            on_progress(len(token_ids), len(token_ids))
        logits = self._append("prefill", token_ids, cancel)
        self._n_prompt = len(self.seen)
        return logits

    def decode(self, token_id: int, *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        self.before_decode()
        return self._append("decode", [token_id], cancel)

    def best(
        self,
        token_ids: Sequence[int],
        wanted: Wanted,
        *,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> BestLogits:
        """What the real session says of the same logits."""
        if len(token_ids) == 1 and self._n_prompt:
            logits = self.decode(token_ids[0], cancel=cancel)
        else:
            logits = self.prefill(token_ids, cancel=cancel, on_progress=on_progress)
        return best_of(logits, wanted)

    def _append(self, call: str, token_ids: Sequence[int], cancel: Cancel | None) -> NDArray[np.float32]:
        if cancel is not None and cancel.is_set():
            raise CancelledError("The call was cancelled.")
        assert 0 < len(token_ids) <= self.context - self.position
        self.calls.append((call, len(token_ids)))
        self.seen += token_ids
        n = len(self.seen) - self._n_prompt if call == "decode" else 0
        self._logits[:] = np.sin(np.arange(VOCAB) * (n + 1))
        self._logits[self._script[n] if n < len(self._script) else ord(" ")] = self.likeliest
        return self._logits


def start(session: Session, prompt: Sequence[int] = (BOS,), cancel: Cancel | None = None, **options: Any) -> Generation:
    sampling = resolve_sampling({"temperature": 0} | options, NOTHING, NOTHING)
    stop_ids = {EOS, END_OF_TURN}
    return Generation(session, ByteTokenizer(), prompt, sampling, stop_ids=stop_ids, vocab_size=VOCAB, cancel=cancel)


def complete(script: Sequence[int] | bytes, **options: Any) -> Completion:
    return start(ToySession(script), **options).finish()


class TestEnd:
    def test_a_stop_token_ends_the_text_and_is_no_part_of_it(self) -> None:
        """Both <eos> and <end_of_turn>: an instruction-tuned model never writes the first."""
        for stop_id in (EOS, END_OF_TURN):
            result = complete([*b"Hello", stop_id, *b"never"])
            assert (result.text, result.finish_reason, result.stopped_by) == ("Hello", "stop", None)
            assert result.token_ids == tuple(b"Hello")

    def test_a_model_that_stops_at_once_gives_an_empty_text(self) -> None:
        session = ToySession([EOS])
        generation = start(session)
        assert list(generation) == []
        assert generation.finish().text == ""
        assert generation.finish().finish_reason == "stop"
        assert session.calls == [("prefill", 1)]

    def test_max_tokens_ends_the_text_after_exactly_so_many(self) -> None:
        result = complete(b"Hello world", max_tokens=5)
        assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("Hello", "length", 5)

    def test_a_text_that_ends_with_its_last_allowed_token_was_cut_by_length(self) -> None:
        """Whether the model would have stopped next is not computed."""
        assert complete([*b"Hi", EOS], max_tokens=2).finish_reason == "length"
        assert complete([*b"Hi", EOS], max_tokens=3).finish_reason == "stop"

    def test_max_tokens_0_computes_nothing_and_gives_an_empty_text(self) -> None:
        session = ToySession(b"Hello")
        generation = start(session, max_tokens=0)
        assert list(generation) == []
        result = generation.finish()
        assert (result.text, result.finish_reason, result.token_ids, session.calls) == ("", "length", (), [])

    def test_without_max_tokens_the_context_ends_the_text(self) -> None:
        session = ToySession(b"abcdefghij", context=8)
        result = start(session, [BOS, 1, 2]).finish()
        assert (result.text, result.finish_reason, result.usage.total_tokens) == ("abcde", "length", 8)

    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_the_last_token_is_not_decoded(self, n: int) -> None:
        """Its logits would be for a token that nobody wants."""
        session = ToySession(b"Hello world")
        start(session, max_tokens=n).finish()
        assert session.calls == [("prefill", 1), *[("decode", 1)] * (n - 1)]

    def test_a_stop_string_ends_the_text_just_before_it_though_it_lies_inside_tokens(self) -> None:
        session = ToySession(b"One. Two.\n\nThree")
        result = start(session, stop=["\n\n", "never"]).finish()
        assert (result.text, result.finish_reason, result.stopped_by) == ("One. Two.", "stop", "\n\n")
        assert result.token_ids == tuple(b"One. Two.\n\n")
        assert len(session.calls) == len(result.token_ids)

    def test_a_stop_string_complete_with_the_last_allowed_token_counts_as_a_stop(self) -> None:
        result = complete(b"Hello.", stop=".", max_tokens=6)
        assert (result.text, result.finish_reason) == ("Hello", "stop")

    def test_the_beginning_of_a_stop_string_is_text_when_the_rest_does_not_come(self) -> None:
        assert complete([*b"a\n", EOS], stop="\n\n").text == "a\n"
        assert complete(b"a\nb", stop="\n\n", max_tokens=2).text == "a\n"


class TestSteps:
    @given(
        text=st.text(max_size=20),
        stop=st.lists(st.text(min_size=1, max_size=3), max_size=3),
        max_tokens=st.one_of(st.none(), st.integers(0, 30)),
    )
    def test_joined_steps_are_the_text_whatever_the_stop_strings(
        self, text: str, stop: list[str], max_tokens: int | None
    ) -> None:
        script = text.encode("utf-8", "replace")
        generation = start(ToySession([*script, EOS]), stop=stop, max_tokens=max_tokens)
        steps = list(generation)
        result = generation.finish()
        assert "".join(step.text for step in steps) == result.text
        assert [step.token_id for step in steps if step.token_id is not None] == list(result.token_ids)
        whole = bytes(result.token_ids).decode("utf-8", "replace")
        assert whole.startswith(result.text)
        assert not any(one in result.text for one in stop)
        assert (result.text == whole) == (result.stopped_by is None)

    def test_a_character_comes_whole_with_its_last_byte(self) -> None:
        steps = list(start(ToySession([*"aé😀".encode(), EOS])))
        assert [step.text for step in steps] == ["a", "", "é", "", "", "", "😀"]

    def test_text_held_back_comes_in_a_last_step_without_a_token(self) -> None:
        steps = list(start(ToySession([*b"a\n", EOS]), stop="\n\n"))
        assert [(step.text, step.token_id) for step in steps] == [("a", ord("a")), ("", ord("\n")), ("\n", None)]

    def test_each_token_is_computed_when_its_step_is_asked_for(self) -> None:
        """A stream shows a token at once, and computes no token ahead for a reader who may leave."""
        session = ToySession(b"Hello")
        generation = start(session)
        assert session.calls == []
        assert next(generation).text == "H"
        assert session.calls == [("prefill", 1)]
        assert next(generation).text == "e"
        assert session.calls == [("prefill", 1), ("decode", 1)]

    def test_the_result_is_there_with_the_last_step(self) -> None:
        generation = start(ToySession(b"Hello"), max_tokens=2)
        assert [(step.text, generation.completion is not None) for step in generation] == [("H", False), ("e", True)]


class TestContext:
    def test_a_prompt_longer_than_the_context_is_an_error_with_both_numbers_before_anything_is_computed(self) -> None:
        session = ToySession(context=4)
        with pytest.raises(ContextFullError, match="prompt has 5 tokens, the context holds 4"):
            start(session, [BOS, 1, 2, 3, 4])
        assert session.calls == []

    def test_a_prompt_that_leaves_no_room_for_an_answer_is_an_error(self) -> None:
        with pytest.raises(ContextFullError, match="leaves no room for an answer"):
            start(ToySession(context=2), [BOS, 1])

    def test_max_tokens_that_do_not_fit_are_an_error_that_says_how_many_would(self) -> None:
        session = ToySession(context=10)
        with pytest.raises(
            ContextFullError, match=r"max_tokens=9 that makes 11; the context holds 10\. Ask for at most 8"
        ):
            start(session, [BOS, 1], max_tokens=9)
        assert session.calls == []
        assert start(session, [BOS, 1], max_tokens=8).finish().usage.total_tokens == 10

    def test_a_larger_context_is_offered_only_as_far_as_the_model_goes(self) -> None:
        """Who is told to load it with more than that is refused again."""
        for n_prompt, max_tokens in ((5, None), (5, 1), (4, None), (4, 1), (2, 4)):
            for max_context, may_grow in ((6, True), (4, False)):
                session = ToySession(context=4, max_context=max_context)
                with pytest.raises(ContextFullError) as caught:
                    start(session, [BOS] * n_prompt, max_tokens=max_tokens)
                assert ("load the model with" in str(caught.value)) == may_grow
                assert ("this model holds at most 4" in str(caught.value)) != may_grow

    def test_a_full_context_does_not_offer_0_tokens(self) -> None:
        with pytest.raises(ContextFullError, match=r"leaves no room for an answer\. Shorten the prompt"):
            start(ToySession(context=2), [BOS, 1], max_tokens=3)

    def test_a_prompt_without_tokens_is_an_error_and_bos_alone_is_none(self) -> None:
        with pytest.raises(ConfigError, match="prompt has no tokens"):
            start(ToySession(), [])
        assert start(ToySession(b"Hi"), [BOS], max_tokens=2).finish().text == "Hi"

    def test_tokens_that_the_session_holds_already_are_not_computed_again(self) -> None:
        session = ToySession([*b"Hi", EOS])
        session.seen = [BOS, 1, 2]
        result = start(session, [BOS, 1, 2, 3, 4]).finish()
        assert session.calls[0] == ("prefill", 2)
        assert (result.usage.prompt_tokens, result.usage.cached_tokens, result.timings.prefill_tokens) == (5, 3, 2)
        assert result.text == "Hi"

    def test_a_cached_prompt_counts_for_penalties_like_a_computed_one(self) -> None:
        """Warm or cold, the same call gives the same text."""
        prompt = [BOS, *b"abc"]
        cold, warm = ToySession(b"ab"), ToySession(b"ab")
        warm.seen = prompt[:3]
        answers = [
            start(each, prompt, repetition_penalty=100, max_tokens=4).finish().token_ids for each in (cold, warm)
        ]
        assert answers[0] == answers[1]
        assert not set(answers[0]) & set(b"ab")

    def test_the_session_holds_the_beginning_of_prompt_and_text(self) -> None:
        """So that a next turn can go on from there."""
        prompt = [BOS, 1, 2]
        ends: list[dict[str, Any]] = [{}, {"max_tokens": 3}, {"stop": "l"}]
        for options in ends:
            session = ToySession([*b"Hello", EOS])
            generation = start(session, prompt, **options)
            generation.finish()
            assert session.seen == (prompt + generation.token_ids)[: session.position]


class TestLeaving:
    def test_a_closed_generation_computes_nothing_more(self) -> None:
        session = ToySession(b"Hello")
        generation = start(session)
        next(generation)
        generation.close()
        generation.close()
        assert list(generation) == []
        assert session.calls == [("prefill", 1)]
        with pytest.raises(CancelledError, match="no result"):
            generation.finish()

    def test_a_dropped_generation_is_freed_at_once_and_with_it_the_session(self) -> None:
        """No cycle of references that waits for the garbage collector with a KV cache in it."""
        session = ToySession(b"Hello")
        generation = start(session)
        next(generation)
        dropped = weakref.ref(session)
        gc.disable()
        try:
            del session, generation
            assert dropped() is None
        finally:
            gc.enable()

    def test_an_interrupt_ends_the_generation_and_leaves_the_session_usable(self) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        session = ToySession(b"Hello")
        generation = start(session)
        next(generation)
        session.before_decode = interrupt
        with pytest.raises(KeyboardInterrupt):
            next(generation)
        session.before_decode = lambda: None
        assert list(generation) == []
        assert session.position == 1
        assert start(session, [BOS, *b"ab"], max_tokens=3).finish().text == "Hel"

    def test_a_cancelled_generation_raises_and_ends(self) -> None:
        cancel = Cancel()
        generation = start(ToySession(b"Hello"), cancel=cancel)
        next(generation)
        cancel.set()
        with pytest.raises(CancelledError):
            next(generation)
        assert list(generation) == []
        assert generation.completion is None

    def test_a_damaged_model_is_an_error_not_a_text(self) -> None:
        session = ToySession(b"Hello")
        generation = start(session)
        next(generation)
        session.likeliest = float("nan")
        with pytest.raises(ModelFormatError, match="damaged"):
            next(generation)


class TestResult:
    def test_a_seed_gives_the_same_text_again_and_the_result_tells_it(self) -> None:
        options: dict[str, Any] = {"temperature": 2.0, "max_tokens": 30}
        first = complete(b"", **options)
        assert complete(b"", **options).token_ids != first.token_ids
        again = complete(b"", seed=first.seed, **options)
        assert (again.token_ids, again.seed) == (first.token_ids, first.seed)

    def test_logprobs_are_those_of_each_token_in_its_own_place(self) -> None:
        """The model's own, whatever penalties and biases have made of them; and never shifted by one."""
        result = complete([*"hé".encode(), EOS], logprobs=2, logit_bias={EOS: 1.0})
        assert result.logprobs is not None
        assert [one.token_id for one in result.logprobs] == list(result.token_ids)
        assert [one.text for one in result.logprobs] == ["h", "\ufffd", "\ufffd"]
        for n, one in enumerate(result.logprobs):
            logits = np.sin(np.arange(VOCAB) * (n + 1))
            logits[one.token_id] = 8
            assert one.logprob == pytest.approx(8 - np.log(np.exp(logits).sum()), abs=1e-5)
            assert [other.token_id for other in one.top] == np.argsort(-logits)[:2].tolist()
            assert one.top[0].logprob == one.logprob

    def test_control_tokens_show_by_name_among_logprobs(self) -> None:
        result = complete([BOS, EOS], logprobs=1)
        assert result.text == ""
        assert result.logprobs is not None
        assert [one.text for one in result.logprobs] == ["<bos>"]

    def test_steps_carry_the_logprobs_of_the_result(self) -> None:
        generation = start(ToySession(b"Hello"), max_tokens=3, logprobs=0)
        logprobs = tuple(step.logprob for step in generation)
        assert generation.finish().logprobs == logprobs
        assert all(one is not None and one.top == () for one in logprobs)

    def test_without_logprobs_there_are_none(self) -> None:
        assert complete(b"Hello", max_tokens=3).logprobs is None

    def test_usage_and_timings_count_what_was_computed(self) -> None:
        result = start(ToySession([*b"Hello", EOS]), [BOS, 1, 2]).finish()
        assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.usage.total_tokens) == (3, 5, 8)
        timings = result.timings
        assert (timings.prefill_tokens, timings.decode_tokens) == (3, 5)
        assert 0 < timings.prefill_seconds <= timings.time_to_first_token
        assert timings.decode_tokens_per_second == 5 / timings.decode_seconds
        assert timings.prefill_tokens_per_second == 3 / timings.prefill_seconds
        assert Timings().decode_tokens_per_second == Timings().prefill_tokens_per_second == 0

    def test_a_slow_reader_does_not_make_the_model_look_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = iter(range(100))
        monkeypatch.setattr("mogemma.generate.perf_counter", lambda: float(next(now)))
        generation = start(ToySession(b"Hello"), max_tokens=3)
        for _ in generation:
            next(now)  # the reader's second
        timings = generation.finish().timings
        assert (timings.prefill_seconds, timings.time_to_first_token, timings.decode_seconds) == (1, 2, 2)

    def test_a_completion_prints_as_its_text_and_goes_into_json(self) -> None:
        result = complete(b"Hello", max_tokens=5, logprobs=1)
        assert str(result) == "Hello"
        assert json.loads(json.dumps(asdict(result)))["usage"] == {
            "prompt_tokens": 1,
            "completion_tokens": 5,
            "cached_tokens": 0,
        }

    def test_progress_of_the_prompt_is_told(self) -> None:
        told: list[tuple[int, int]] = []
        sampling = resolve_sampling({"max_tokens": 1}, NOTHING, NOTHING)
        Generation(
            ToySession(b"Hello"),
            ByteTokenizer(),
            [BOS, 1, 2],
            sampling,
            stop_ids=(),
            vocab_size=VOCAB,
            on_progress=lambda done, of: told.append((done, of)),
        ).finish()
        assert told == [(3, 3)]


def test_greedy_generation_with_a_real_session_gives_the_reference_tokens() -> None:
    """The tokens that the reference implementation generated from the same weights."""
    golden = np.load(DATA / "tiny/gemma3-text/golden.npz")
    prompt = golden["input_ids"].tolist()
    with open_checkpoint(DATA / "tiny/gemma3-text") as checkpoint:
        runner = Runner(checkpoint, threads=1, arithmetic="float32")
        session = ModelSession(runner)
        sampling = resolve_sampling({"temperature": 0, "max_tokens": 8}, NOTHING, NOTHING)
        tokenizer = Tokenizer.from_folder(DATA / "tiny/gemma3-text")
        generation = Generation(session, tokenizer, prompt, sampling, stop_ids=(), vocab_size=tokenizer.vocab_size)
        result = generation.finish()
        assert list(result.token_ids) == golden["greedy_ids"].tolist()
        assert result.text == tokenizer.decode(golden["greedy_ids"].tolist())
        assert session.position == len(prompt) + 7
        session.close()
        runner.close()
