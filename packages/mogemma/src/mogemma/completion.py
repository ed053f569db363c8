"""What a generation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]
"""The model or a stop string ended the text; or max_tokens, or the end of the context, did."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was in the model's own distribution: at temperature 1, before bias and penalties.

    Attributes:
        text: The token alone; bytes that are no whole character show as U+FFFD.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens in its place, likeliest first, as many as were asked for.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted.

    Attributes:
        cached_tokens: Those of the prompt that were in the KV cache already.
        completion_tokens: The length of `Completion.token_ids`.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went; what the reader of a stream did between two tokens is not in it.

    Attributes:
        prefill_tokens: Those of the prompt that were computed.
        prefill_seconds: Spent on them.
        decode_tokens: Forward passes of one token: one fewer than tokens chosen, since the last is never read back.
        decode_seconds: Spent on them, and on choosing the tokens and writing them as text.
        time_to_first_token: Seconds from the start until the first token was chosen.
    """

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    time_to_first_token: float = 0.0

    @property
    def prefill_tokens_per_second(self) -> float:
        """0 where nothing was computed."""
        return self.prefill_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """0 where nothing was computed."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation; `str()` of it is its text.

    Attributes:
        text: Without what ended it.
        token_ids: The tokens of the text, without the one that ended it; with a stop string, also the tokens that wrote it.
        finish_reason: "stop" or "length".
        stopped_by: The stop string that ended it, if one did.
        seed: What the same call needs to give the same text again.
        logprobs: One for each of `token_ids`, if they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    seed: int
    stopped_by: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None

    def __str__(self) -> str:
        return self.text
