"""The loop: prefill once, then choose and decode token by token until a stop.

    prompt ids ── prefill ──> logits ── Sampler ──> token ── AnswerStream ──> Step     (the best logits, or all of them)
                                ^                     |
                                └────── decode ───────┘   not after the last: nobody would read those logits

Written against the few things it needs of a session, so that it can be read, and tested, without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from ._native import BestLogits
from .answer_stream import AnswerStream, Piece
from .completion import Completion, FinishReason, Timings, TokenLogprob, ToolCall, Usage
from .errors import CancelledError, ConfigError, ContextFullError
from .sampling import Sampler, log_probabilities
from .session import or_larger_context
from .templates.template import PLAIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._native import Cancel, Wanted
    from .config import Sampling
    from .templates.template import AnswerFormat
    from .tokenizer import Tokenizer

Progress = Callable[[int, int], None]
"""Called with the tokens of the prompt that are computed, and how many are to be."""


class Session(Protocol):
    """What the loop needs of `mogemma.session.Session`."""

    @property
    def position(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    def prefill(
        self, token_ids: Sequence[int], *, cancel: Cancel | None = None, on_progress: Progress | None = None
    ) -> NDArray[np.float32]: ...

    def decode(self, token_id: int, *, cancel: Cancel | None = None) -> NDArray[np.float32]: ...

    def best(
        self,
        token_ids: Sequence[int],
        wanted: Wanted,
        *,
        cancel: Cancel | None = None,
        on_progress: Progress | None = None,
    ) -> BestLogits: ...


@dataclass(frozen=True, slots=True)
class Step:
    """What one token adds.

    Attributes:
        text: Often empty: it waits for the rest of a character, or until it cannot become a stop string.
        token_id: None for the text that was still waiting when the model ended.
        logprob: If it was asked for.
        reasoning: As `text`, of what the model thinks.
        tool_calls: Calls of tools that this token ended.
    """

    text: str
    token_id: int | None = None
    logprob: TokenLogprob | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether it adds nothing that could be shown."""
        return not (self.text or self.reasoning or self.tool_calls)


class Generation(Iterator[Step]):
    """One generation: an iterator of its steps, each computed when it is asked for.

    It may be left at any step: `close` it, or drop it. The session then holds the first `session.position` of the prompt and
    `token_ids`.

    Attributes:
        token_ids: The tokens of the text so far; not the stop token that ended it.
        completion: The result, from the last step on; None before.
    """

    def __init__(
        self,
        session: Session,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        stop_ids: Collection[int],
        vocab_size: int,
        answer: AnswerFormat = PLAIN,
        tools: Collection[str] | None = None,
        cancel: Cancel | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Check what can be checked before anything is computed.

        Args:
            session: Holds the first `session.position` tokens of the prompt already, but not its last.
            prompt_ids: The whole prompt.
            sampling: From `resolve_sampling`.
            stop_ids: Tokens that end the text and are no part of it.
            vocab_size: Only tokens below it are chosen: the number that both the model and the tokenizer have.
            answer: How thoughts and calls of tools are marked in what comes.
            tools: The names that calls may have; None: any.
            cancel: Ends the forward pass under way, and with it the generation, with CancelledError.
            on_progress: Called during prefill.

        Raises:
            ContextFullError: The prompt, or the prompt and max_tokens together, do not fit the context.
            ConfigError: The prompt has no tokens, or `logit_bias` names one that there is not.
        """
        self.token_ids: list[int] = []
        self.completion: Completion | None = None
        self._session = session
        self._tokenizer = tokenizer
        self._prompt_ids = prompt_ids
        self._n_cached = session.position
        self._n_most = most_tokens(len(prompt_ids), sampling.max_tokens, session.context, session.max_context)
        self._sampling = sampling
        self._vocab_size = vocab_size
        self._sampler = Sampler(sampling, vocab_size)
        self._stream = AnswerStream(tokenizer, sampling.stop, answer, prompt_ids=prompt_ids, tools=tools)
        self._stop_ids = frozenset(stop_ids)
        self._cancel = cancel
        self._on_progress = on_progress
        self._pieces: list[Piece] = []
        self._logprobs: list[TokenLogprob] = []
        self._timings = Timings()
        self._is_over = self._n_most == 0
        if self._is_over:
            self.completion = self._result("length")

    def __next__(self) -> Step:
        if self._is_over:
            raise StopIteration
        self._is_over = True  # and it stays so if this raises
        step, reason = self._following() if self._timings.prefill_tokens else self._first()
        self._pieces.append(Piece(step.text, step.reasoning, step.tool_calls))
        self._is_over = reason is not None
        if reason is not None:
            self.completion = self._result(reason)
            if step.token_id is None and step.is_silent:
                raise StopIteration
        return step

    def close(self) -> None:
        """End it here; harmless when it has ended."""
        self._is_over = True

    def finish(self) -> Completion:
        """Take the steps that are left, and give the result.

        Raises:
            CancelledError: It was closed before its end.
        """
        for _ in self:
            pass
        if self.completion is None:
            raise CancelledError("This generation was left before its end, so it has no result. Start another.")
        return self.completion

    def _first(self) -> tuple[Step, FinishReason | None]:
        started = perf_counter()
        missing = self._prompt_ids[self._n_cached :]
        self._sampler.read(self._prompt_ids)
        logits: NDArray[np.float32] | BestLogits
        if (wanted := self._wanted()) is None:
            logits = self._session.prefill(missing, cancel=self._cancel, on_progress=self._on_progress)
        else:
            logits = self._session.best(missing, wanted, cancel=self._cancel, on_progress=self._on_progress)
        prefilled = perf_counter()
        chosen = self._chosen(logits)
        self._timings = Timings(
            prefill_tokens=len(missing),
            prefill_seconds=prefilled - started,
            time_to_first_token=perf_counter() - started,
        )
        return chosen

    def _following(self) -> tuple[Step, FinishReason | None]:
        started = perf_counter()
        logits: NDArray[np.float32] | BestLogits
        if (wanted := self._wanted()) is None:
            logits = self._session.decode(self.token_ids[-1], cancel=self._cancel)
        else:
            logits = self._session.best(self.token_ids[-1:], wanted, cancel=self._cancel)
        chosen = self._chosen(logits)
        self._timings = replace(
            self._timings,
            decode_tokens=self._timings.decode_tokens + 1,
            decode_seconds=self._timings.decode_seconds + perf_counter() - started,
        )
        return chosen

    def _wanted(self) -> Wanted | None:
        """Which logits are enough; None: all, which log-probabilities are made of."""
        return self._sampler.wanted() if self._sampling.logprobs is None else None

    def _chosen(self, logits: NDArray[np.float32] | BestLogits) -> tuple[Step, FinishReason | None]:
        """The step that these logits lead to, and why it is the last, if it is."""
        own = None
        if self._sampling.logprobs is not None and not isinstance(logits, BestLogits):
            own = logits[: self._vocab_size].copy()  # before the sampler changes them
        token_id = self._sampler.choose(logits)
        if token_id in self._stop_ids:
            return _step(self._stream.finish()), "stop"
        self.token_ids.append(token_id)
        piece = self._stream.push(token_id)
        is_full = len(self.token_ids) == self._n_most
        if is_full:
            piece = piece.then(self._stream.finish())
        reason: FinishReason | None = "stop" if self._stream.stopped_by else "length" if is_full else None
        return _step(piece, token_id, None if own is None else self._logprob(own, token_id)), reason

    def _logprob(self, logits: NDArray[np.float32], token_id: int) -> TokenLogprob:
        logprob, best = log_probabilities(logits, token_id, self._sampling.logprobs or 0)
        top = tuple(TokenLogprob(each, self._spelled(each), value) for each, value in best)
        self._logprobs.append(TokenLogprob(token_id, self._spelled(token_id), logprob, top))
        return self._logprobs[-1]

    def _spelled(self, token_id: int) -> str:
        return self._tokenizer.token_bytes(token_id, skip_special=False).decode("utf-8", "replace")

    def _result(self, reason: FinishReason) -> Completion:
        calls = tuple(call for piece in self._pieces for call in piece.tool_calls)
        is_waiting = reason == "stop" and self._stream.stopped_by is None and any(call.is_valid for call in calls)
        return Completion(
            text="".join(piece.text for piece in self._pieces),
            token_ids=tuple(self.token_ids),
            finish_reason="tool_calls" if is_waiting else reason,
            usage=Usage(len(self._prompt_ids), len(self.token_ids), self._n_cached),
            timings=self._timings,
            seed=self._sampling.seed,
            stopped_by=self._stream.stopped_by,
            logprobs=None if self._sampling.logprobs is None else tuple(self._logprobs),
            reasoning="".join(piece.reasoning for piece in self._pieces) or None,
            tool_calls=calls,
        )


def _step(piece: Piece, token_id: int | None = None, logprob: TokenLogprob | None = None) -> Step:
    return Step(piece.text, token_id, logprob, piece.reasoning, piece.tool_calls)


def most_tokens(n_prompt: int, max_tokens: int | None, context: int, max_context: int) -> int:
    """How many tokens may be generated; a prompt and its answer share the context.

    A max_tokens that does not fit is an error, not a limit to be lowered in silence: who asks for so many would find out
    only when the answer breaks off.

    Args:
        max_context: The largest context that the model can be loaded with.

    Raises:
        ContextFullError: The prompt, or the prompt and max_tokens together, do not fit the context.
        ConfigError: The prompt has no tokens.
    """
    if n_prompt == 0:
        raise ConfigError("The prompt has no tokens; give at least one, such as BOS.")
    n_free = context - n_prompt
    if n_free < 0 or (n_free == 0 and max_tokens != 0):
        room = "" if n_free < 0 else ", which leaves no room for an answer"
        n_wanted = n_prompt + (1 if max_tokens is None else max_tokens)
        raise ContextFullError(
            f"The prompt has {n_prompt} tokens, the context holds {context}{room}. "
            f"Shorten the prompt{or_larger_context(n_wanted, max_context, 'or more')}."
        )
    if max_tokens is not None and max_tokens > n_free:
        raise ContextFullError(
            f"The prompt has {n_prompt} tokens, and with max_tokens={max_tokens} that makes {n_prompt + max_tokens}; "
            f"the context holds {context}. Ask for at most {n_free}, or leave max_tokens out to use what room there is, "
            f"or shorten the prompt{or_larger_context(n_prompt + max_tokens, max_context)}."
        )
    return n_free if max_tokens is None else max_tokens
