"""Embed: texts to vectors, many in one call or one short query. Tokenising is part of it, as it is for a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..engine import Embedder
from ..measure import now


@dataclass(frozen=True, slots=True)
class EmbedSample:
    n_texts: int
    n_tokens: int
    seconds: float

    @property
    def texts_per_second(self) -> float:
        return self.n_texts / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.n_tokens / self.seconds

    def __str__(self) -> str:
        if self.n_texts == 1:
            return f"one query in {1000 * self.seconds:,.1f} ms"
        return f"{self.texts_per_second:,.1f} texts/s, {self.tokens_per_second:,.1f} tokens/s"


def embed(embedder: Embedder, texts: Sequence[str], n_tokens: int) -> EmbedSample:
    """`n_tokens` are those of all texts, special tokens included."""
    start = now()
    embedder.embed(texts)
    return EmbedSample(len(texts), n_tokens, now() - start)
