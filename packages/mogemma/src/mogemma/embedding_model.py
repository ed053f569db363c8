"""A model that embeds: checkpoint ── Runner ── Embedder ──> unit vectors. `async_model.py` has it for asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint, open_checkpoint
from .config import EmbeddingConfig, read_config
from .embed import Embedder
from .embedding_prompt import with_task
from .errors import CancelledError, ConfigError, ModelFormatError
from .hub.known import EMBEDDER
from .hub.locate import locate
from .loaded_model import LoadedModel, Progress, Prompt
from .session import Runner

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from ._native import Cancel

MOST_CONTEXT = 8192
"""Most tokens of a text that a generative Gemma embeds: it runs in one pass, whose scratch memory grows with it."""

BATCH_TEXTS = 128
"""Most texts of one forward pass."""


class SyncEmbeddingModel(LoadedModel):
    """A Gemma that turns texts into vectors: EmbeddingGemma, or the mean hidden state of a generative one.

    A text's vector does not depend on the texts it is embedded with. Calls from several threads are legal.
    """

    def __init__(self, model: str | os.PathLike[str] | EmbeddingConfig | None = None, **options: Any) -> None:
        """Load a model.

        Args:
            model: Path of a sentence-transformers folder or of a .gguf file, a known name, what the hub calls a model
                (org/name), the name of a folder in the model folder, or an EmbeddingConfig. What is not on this machine is
                downloaded. Default: embeddinggemma-300m.
            options: Fields of EmbeddingConfig; they override those of the config.

        Raises:
            ModelNotFoundError: There is no such model.
            DownloadError: It could not be downloaded.
            ModelFormatError: Its file is damaged.
            UnsupportedModelError: It is none that mogemma runs, or lacks the heads that its vectors need.
            ConfigError: An option is unknown or out of range.
        """
        self._config = read_config(EmbeddingConfig, model, options)
        config = self._config
        with ExitStack() as opened:
            checkpoint = opened.enter_context(open_checkpoint(locate(config.model, default=EMBEDDER).path))
            runner = opened.enter_context(
                Runner(
                    checkpoint,
                    context=None,
                    most_context=MOST_CONTEXT,
                    threads=config.threads,
                    arithmetic=config.arithmetic,
                    quantize=config.quantize,
                    max_tokens=config.batch_tokens,
                    max_outputs=BATCH_TEXTS,
                    embeds=config.dense,
                )
            )
            self._embedder = Embedder(runner, config.batch_tokens)
            self._prompts = _file_prompts(checkpoint)
            super().__init__(checkpoint, runner)
            opened.pop_all()  # all is well: they stay open until close()

    @property
    def dimensions(self) -> int:
        """Size of a full vector."""
        return self._embedder.dimensions

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts that the model's own files name."""
        return self._prompts

    def embed(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[int]],
        *,
        dimensions: int | None = None,
        prompt: str | None = None,
        on_progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> NDArray[np.float32]:
        """Vectors of texts, of unit length.

        Args:
            texts: One or several; or token ids of several, special tokens included.
            dimensions: Keep the first so many numbers and bring them to unit length again (Matryoshka).
            prompt: Name of the prompt to put before each text: one of `prompts`, "query", "document" or another task of
                EmbeddingGemma. Default: none.
            on_progress: Called with the texts done and those in all.
            cancel: Ends the work from another thread.

        Returns:
            float32 [n_texts, dimensions]; for a single text [dimensions].

        Raises:
            ContextFullError: A text is longer than the model's context; nothing is cut.
        """
        name = self._config.prompt if prompt is None else prompt
        return self._embed(texts, name, dimensions=dimensions, on_progress=on_progress, cancel=cancel)

    def embed_query(
        self, text: str | Sequence[str], *, dimensions: int | None = None, **options: Any
    ) -> NDArray[np.float32]:
        """Vectors of search queries, with the model's prompt for them; otherwise as `embed`."""
        return self.embed(text, dimensions=dimensions, prompt="query", **options)

    def embed_documents(
        self,
        texts: Sequence[str],
        *,
        titles: Sequence[str | None] | None = None,
        dimensions: int | None = None,
        **options: Any,
    ) -> NDArray[np.float32]:
        """Vectors of documents to be found, with the model's prompt for them, and with their titles where given."""
        if titles is None:
            return self.embed(texts, dimensions=dimensions, prompt="document", **options)
        if isinstance(texts, str) or len(titles) != len(texts):
            raise ConfigError(
                f"There are {len(texts)} texts and {len(titles)} titles; give one (or None) for each text."
            )
        prompted = [with_task(text, "document", title=title) for text, title in zip(texts, titles, strict=True)]
        return self._embed(prompted, None, dimensions=dimensions, **options)

    def _embed(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[int]],
        prompt: str | None,
        *,
        dimensions: int | None,
        on_progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> NDArray[np.float32]:
        self.check_open()
        several = [texts] if isinstance(texts, str) else texts
        vectors = self._embedder.embed(
            [self._prompted_ids(text, prompt, cancel) for text in several],
            dimensions=self._config.dimensions if dimensions is None else dimensions,
            normalize=self._config.normalize,
            cancel=cancel,
            on_progress=on_progress,
        )
        return vectors.reshape(-1) if isinstance(texts, str) else vectors

    def _prompted_ids(self, text: Prompt, prompt: str | None, cancel: Cancel | None) -> list[int]:
        if cancel is not None and cancel.is_set():  # a million texts take their time before any is embedded
            raise CancelledError("The call was cancelled; the model can be used again.")
        return self._ids(self._prompted(text, prompt) if isinstance(text, str) else text)

    def _prompted(self, text: str, name: str | None) -> str:
        if name is not None and name in self._prompts:
            return self._prompts[name] + text
        return with_task(text, name, others=self._prompts)


EmbeddingModel = SyncEmbeddingModel


def _file_prompts(checkpoint: Checkpoint) -> Mapping[str, str]:
    config = None if checkpoint.kind == "gguf" else checkpoint.read_json("config_sentence_transformers.json")
    prompts = config.get("prompts", {}) if isinstance(config, dict) else {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelFormatError(f"{checkpoint.path}: 'prompts' in config_sentence_transformers.json are no texts.")
    return prompts
