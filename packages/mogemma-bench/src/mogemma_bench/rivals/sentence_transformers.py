"""sentence-transformers: EmbeddingGemma in PyTorch, in bfloat16."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any


class Engine:
    """All texts of a job are one batch; tokenising counts, as it does for a user."""

    arithmetic = "bfloat16"

    def __init__(self, model: str, mode: str, threads: int, context: int) -> None:
        if mode != "embedding":
            raise ValueError("it embeds, and writes no text")
        try:
            torch: Any = import_module("torch")
            library: Any = import_module("sentence_transformers")
        except ImportError as error:
            raise ImportError(f"{error}. Install sentence-transformers in this Python, or name another one") from error
        torch.set_num_threads(threads)
        self.version = f"{library.__version__}, torch {torch.__version__}"
        self._model = library.SentenceTransformer(model, device="cpu", model_kwargs={"dtype": torch.bfloat16})
        self._model.max_seq_length = context

    def embed(self, texts: list[str]) -> dict[str, Any]:
        start = time.perf_counter()
        self._model.encode(texts, batch_size=len(texts), show_progress_bar=False)
        seconds = time.perf_counter() - start
        return {"tokens": sum(len(ids) for ids in self._model.tokenizer(texts)["input_ids"]), "seconds": seconds}
