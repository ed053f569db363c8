"""ik-llama-cpp-python: ik_llama.cpp behind a Python package."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any


class Engine:
    """By its public `generate`, which ends at the end of a text; then a job comes out shorter than asked for."""

    arithmetic = None

    def __init__(self, model: str, mode: str, threads: int, context: int) -> None:
        if mode != "generation":
            raise ValueError("in this bench it writes text and embeds nothing")
        try:
            library: Any = import_module("ik_llama_cpp")
        except ImportError as error:
            raise ImportError(f"{error}. Install ik-llama-cpp-python in this Python, or name another one") from error
        self.version: str = library.__version__
        self._model = library.IkLlama(model, n_ctx=context, n_threads=threads, verbose=False)

    def prefill(self, texts: list[str]) -> dict[str, Any]:
        tokens = self._model.tokenize(texts[0], add_bos=True)
        start = time.perf_counter()
        self._model.generate(tokens, max_tokens=0)
        return {"tokens": len(tokens), "seconds": time.perf_counter() - start}

    def decode(self, tokens: int) -> dict[str, Any]:
        """A prompt of one token costs as much as each token behind it, and counts as one of them."""
        prompt = self._model.tokenize("", add_bos=True)
        start = time.perf_counter()
        written = self._model.generate(prompt, max_tokens=tokens - len(prompt), temperature=0.0)
        return {"tokens": len(prompt) + len(written), "seconds": time.perf_counter() - start}
