"""Decode: one token at a time behind a prompt. Bound by reading all weights for each of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import Generator
from ..errors import BenchError
from .request import request


@dataclass(frozen=True, slots=True)
class DecodeSample:
    tokens_per_second: float

    def __str__(self) -> str:
        return f"decode {self.tokens_per_second:,.1f} tokens/s"


def decode(generator: Generator, prompt: str, n_prompt_tokens: int, n_new_tokens: int) -> DecodeSample:
    """Tokens after the first by the seconds between the first and the last; sampling included, prefill not.

    Args:
        n_new_tokens: At least 2: the first comes out of the prefill.
    """
    done = request(generator, prompt, n_prompt_tokens, n_new_tokens)
    if done.decode_seconds <= 0:
        raise BenchError(f"The model claims {done.decode_seconds} s for {n_new_tokens - 1} decode steps.")
    return DecodeSample((done.new_tokens - 1) / done.decode_seconds)
