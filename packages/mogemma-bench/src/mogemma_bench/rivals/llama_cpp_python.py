"""llama-cpp-python: llama.cpp behind a Python package."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any


class Engine:
    """Prompts are evaluated as they are, greedily, and no end of text stops the writing."""

    arithmetic = None

    def __init__(self, model: str, mode: str, threads: int, context: int) -> None:
        if mode != "generation":
            raise ValueError("in this bench it writes text and embeds nothing")
        try:
            library: Any = import_module("llama_cpp")
        except ImportError as error:
            raise ImportError(f"{error}. Install llama-cpp-python in this Python, or name another one") from error
        self.version: str = library.__version__
        self._model = library.Llama(
            model, n_ctx=context, n_threads=threads, n_threads_batch=threads, n_batch=2048, verbose=False
        )

    def prefill(self, texts: list[str]) -> dict[str, Any]:
        tokens = self._model.tokenize(texts[0].encode(), add_bos=True)
        self._model.reset()
        start = time.perf_counter()
        self._model.eval(tokens)
        return {"tokens": len(tokens), "seconds": time.perf_counter() - start}

    def decode(self, tokens: int) -> dict[str, Any]:
        self._model.reset()
        self._model.eval([self._model.token_bos()])
        start = time.perf_counter()
        for _ in range(tokens):
            self._model.eval([self._model.sample(temp=0.0)])
        return {"tokens": tokens, "seconds": time.perf_counter() - start}
