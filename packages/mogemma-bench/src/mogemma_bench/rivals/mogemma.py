"""mogemma in a comparison: in a process of its own, by its public names, like every rival."""

from __future__ import annotations

from time import perf_counter
from typing import Any


class Engine:
    """As a user has it; `info` and `count` are what the bench asks of mogemma alone."""

    def __init__(self, model: str, mode: str, threads: int, context: int, **precision: str) -> None:
        # Each has its part in a cold start, so nothing is imported that the mode does not need.
        from mogemma import EmbeddingModel, SyncGemmaModel  # noqa: PLC0415  part of a cold start

        options: Any = precision
        self._model: Any = (
            SyncGemmaModel(model, threads=threads, context=context, **options)
            if mode == "generation"
            else EmbeddingModel(model, threads=threads, **options)
        )
        self.version = ""
        self.arithmetic = None

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = self._model.info.as_dict()
        return found

    def count(self, text: str) -> int:
        n_tokens: int = self._model.count_tokens(text)
        return n_tokens

    def prefill(self, texts: list[str]) -> dict[str, Any]:
        done = self._model.complete(texts[0], max_tokens=1, temperature=0.0, stop_ids=())
        n_tokens = done.usage.prompt_tokens
        # BOS is still in the cache from the prompt before, and took no time.
        of_all = n_tokens / (n_tokens - done.usage.cached_tokens)
        return {"tokens": n_tokens, "seconds": done.timings.prefill_seconds * of_all}

    def decode(self, tokens: int) -> dict[str, Any]:
        done = self._model.complete("", max_tokens=tokens + 1, temperature=0.0, stop_ids=())
        return {"tokens": done.usage.completion_tokens - 1, "seconds": done.timings.decode_seconds}

    def embed(self, texts: list[str]) -> dict[str, Any]:
        start = perf_counter()
        self._model.embed(texts)
        seconds = perf_counter() - start
        return {"tokens": sum(map(self._model.count_tokens, texts)), "seconds": seconds}
