"""Prefill: all tokens of a prompt at once, up to the first new token. Bound by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import Generator
from ..errors import BenchError
from .request import request

_COMMON_BEGINNING = 4
"""BOS, and a first word that two prompts may share."""


@dataclass(frozen=True, slots=True)
class PrefillSample:
    """`first_token_seconds` is what a user waits: tokenising and sampling come on top of the forward passes."""

    tokens_per_second: float
    first_token_seconds: float

    def __str__(self) -> str:
        return f"prefill {self.tokens_per_second:,.1f} tokens/s"


def prefill(generator: Generator, prompt: str, n_prompt_tokens: int) -> PrefillSample:
    """Tokens of the prompt by the seconds of its forward passes, which end in the logits of the last one.

    Raises:
        BenchError: More of the prompt than its beginning came out of a cache.
    """
    done = request(generator, prompt, n_prompt_tokens, 1)
    if done.cached_tokens > _COMMON_BEGINNING:
        raise BenchError(
            f"The model had {done.cached_tokens} of the prompt's {n_prompt_tokens} tokens in its cache, though no round "
            "repeats a prompt. This would not measure prefill."
        )
    computed = done.prompt_tokens - done.cached_tokens
    return PrefillSample(computed / done.prefill_seconds, done.first_token_seconds)
