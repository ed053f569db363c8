"""The objects that a user holds: a model that writes, and one that embeds.

    SyncGemmaModel      checkpoint ── Runner ── Session ── Generation ──> text
    SyncEmbeddingModel  checkpoint ── Runner ── Embedder ──> unit vectors

`async_model.py` has both for asyncio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from .checkpoint import Checkpoint, open_checkpoint
from .config import EmbeddingConfig, GenerationConfig, SamplingConfig, file_sampling, read_config, resolve_sampling
from .embed import Embedder
from .embedding_prompt import with_task
from .errors import (
    CancelledError,
    ConfigError,
    ContextFullError,
    ModelClosedError,
    ModelFormatError,
    TokenizerError,
)
from .generate import Generation, most_tokens
from .info import ModelInfo, describe
from .library import find_model
from .prompt import GEMMA_3, render
from .session import Runner, Session
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

    from ._native import Cancel
    from .completion import Completion
    from .config import SamplingOptions

Prompt: TypeAlias = "str | Sequence[int]"
"""A text, or token ids as they are: nothing is added to ids, not even BOS."""

Messages: TypeAlias = "Sequence[Mapping[str, Any]]"
Progress: TypeAlias = "Callable[[int, int], None]"

END_OF_TURN = "<end_of_turn>"
EMBEDDING_CONTEXT = 8192
"""Most tokens of a text that a generative Gemma embeds: it runs in one pass, whose scratch memory grows with it."""

_SCORE_CHUNK = 64
"""Tokens whose logits are held at once while a text is scored."""


class LoadedModel:
    """An open checkpoint, the engine over it and its tokenizer."""

    def __init__(self, checkpoint: Checkpoint, runner: Runner) -> None:
        self._checkpoint = checkpoint
        self._runner = runner
        self._tokenizer = _tokenizer_of(checkpoint, runner)
        self._is_open = True

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back. A model without one still runs on ids; it says so when text comes in."""
        self.check_open()
        return self._tokenizer

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it costs at this moment."""
        self.check_open()
        return describe(self._checkpoint, self._runner)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as this model would read it, BOS included."""
        return self.tokenizer.count(text)

    def close(self) -> None:
        """Wait for running calls, then give all memory back. Closing twice is harmless; any other use is an error."""
        self._is_open = False
        self._runner.close()
        self._checkpoint.close()

    def check_open(self) -> None:
        """Raise ModelClosedError once the model was closed."""
        if not self._is_open:
            raise ModelClosedError("This model was closed. Load it again.")
        self._runner.engine.check_process()

    def _ids(self, text: Prompt) -> list[int]:
        self.check_open()
        return self._tokenizer.encode(text) if isinstance(text, str) else self._runner.checked_ids(text).tolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SyncGemmaModel(LoadedModel):
    """A Gemma that writes text.

    Calls from several threads are legal: each text has a KV cache of its own, and forward passes take turns.
    """

    def __init__(self, model: str | os.PathLike[str] | GenerationConfig, **options: Any) -> None:
        """Load a model.

        Args:
            model: Path of a .gguf file or of a folder with safetensors, the name of a model in the model folder, or a
                GenerationConfig.
            options: Fields of GenerationConfig; they override those of the config.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelFormatError: Its file is damaged.
            UnsupportedModelError: It is none that mogemma runs, or it only embeds.
            ConfigError: An option is unknown or out of range.
        """
        self._config = read_config(GenerationConfig, model, options)
        config = self._config
        with ExitStack() as opened:
            checkpoint = opened.enter_context(open_checkpoint(find_model(config.model)))
            runner = opened.enter_context(
                Runner(
                    checkpoint,
                    context=config.context,
                    threads=config.threads,
                    arithmetic=config.arithmetic,
                    cache=config.cache,
                )
            )
            self._idle = [Session(runner)]
            self._in_file = _file_sampling(checkpoint)
            self._listed_stop_ids = _listed_stop_ids(checkpoint)
            super().__init__(checkpoint, runner)
            opened.pop_all()  # all is well: they stay open until close()

    def generate(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> str:
        """Continue a text; errors as in `complete`."""
        return self.complete(prompt, **options).text

    def generate_stream(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> Iterator[str]:
        """The same, piece by piece; joined they are the text. Leaving the iterator ends the work."""
        return _pieces(self.generation(prompt, **options))

    def complete(
        self,
        prompt: Prompt,
        *,
        stop_ids: Collection[int] | None = None,
        on_progress: Progress | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """Continue a text, and tell how it went.

        Args:
            prompt: A text, before which BOS is put; or token ids.
            stop_ids: Tokens that end the text; default: the model's own. None at all: generate until max_tokens.
            on_progress: Called during prefill with the prompt's tokens that are done and those in all.
            options: Fields of SamplingConfig; unset ones come from the config, then the file, then Gemma's defaults.

        Raises:
            ContextFullError: The prompt, or the prompt and max_tokens together, do not fit the context.
            ConfigError: An option is unknown or out of range.
            TokenizerError: The text is no valid Unicode, or the model has no tokenizer.
        """
        with self.generation(prompt, stop_ids=stop_ids, on_progress=on_progress, **options) as generation:
            return generation.finish()

    def chat(
        self, messages: Messages, *, on_progress: Progress | None = None, **options: Unpack[SamplingOptions]
    ) -> Completion:
        """Answer the last of a list of messages `{"role": ..., "content": ...}`.

        A system message opens the user's first turn, as Gemma was trained; neighbouring messages of one side are joined.
        What earlier turns share with the last call is taken from the KV cache.

        Raises:
            PromptError: A message is malformed.
        """
        with self.chat_generation(messages, on_progress=on_progress, **options) as generation:
            return generation.finish()

    def chat_stream(self, messages: Messages, **options: Unpack[SamplingOptions]) -> Iterator[str]:
        """The answer piece by piece; joined they are its text. Leaving the iterator ends the work."""
        return _pieces(self.chat_generation(messages, **options))

    @contextmanager
    def generation(
        self,
        prompt: Prompt,
        *,
        stop_ids: Collection[int] | None = None,
        on_progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Generation]:
        """What `complete` and `generate_stream` run, step by step: tokens and log-probabilities as they come.

        Within the `with` block the generation has a KV cache of its own. `cancel` ends it from another thread.
        """
        sampling = resolve_sampling(cast("dict[str, object]", options), self._config, self._in_file)
        ids = self._ids(prompt)
        if not ids:
            raise TokenizerError("The prompt is empty and this model puts no BOS before it. Give it some text.")
        most_tokens(len(ids), sampling.max_tokens, self._runner.context)  # before a session forgets what it holds
        with self._session(ids) as session:
            generation = Generation(
                session,
                self._tokenizer,
                ids,
                sampling,
                stop_ids=self.stop_ids if stop_ids is None else stop_ids,
                vocab_size=min(self._runner.spec.vocab_size, self._tokenizer.vocab_size),
                cancel=cancel,
                on_progress=on_progress,
            )
            try:
                yield generation
            finally:
                generation.close()

    @contextmanager
    def chat_generation(
        self,
        messages: Messages,
        *,
        on_progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Generation]:
        """The same for a conversation: what `chat` and `chat_stream` run."""
        self.check_open()
        ids = self._tokenizer.encode_segments(render(messages, GEMMA_3))
        with self.generation(ids, on_progress=on_progress, cancel=cancel, **options) as generation:
            yield generation

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a text: end of sequence, and the end of a turn where the vocabulary has one."""
        tokenizer = self.tokenizer
        ids = {tokenizer.eos_id, tokenizer.id_of(END_OF_TURN), *self._listed_stop_ids}
        return frozenset(token_id for token_id in ids if token_id is not None)

    def logits(self, token_ids: Sequence[int], *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        """Logits of every token, float32 [n_tokens, vocab_size]: 1 MB a token for Gemma 3. Needs no tokenizer."""
        ids = self._ids(token_ids)
        with self._session(()) as session:
            return session.logits(ids, cancel=cancel)

    def score(self, text: Prompt, *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        """Natural log-probability of each token after the first, float32 [n_tokens - 1].

        The first is BOS where text is given, so every token of the text is scored.

        Raises:
            ContextFullError: There are more tokens than the context holds; nothing was computed.
        """
        ids = self._ids(text)
        if len(ids) > self._runner.context:
            raise ContextFullError(
                f"The text has {len(ids)} tokens, the context holds {self._runner.context}. Score it in parts, or load "
                f"the model with context={len(ids)}."
            )
        scores = np.empty(max(len(ids) - 1, 0), np.float32)
        with self._session(()) as session:
            for first in range(0, len(scores), _SCORE_CHUNK):
                part = ids[first : first + _SCORE_CHUNK]
                following = ids[first + 1 : first + 1 + len(part)]
                logits = session.logits(part, cancel=cancel)[: len(following)]
                scores[first : first + len(following)] = _log_probabilities(logits, following)
        return scores

    def close(self) -> None:
        """Wait for a running forward pass, then give all memory back."""
        super().close()
        self._keep_idle(0)

    @contextmanager
    def _session(self, token_ids: Sequence[int]) -> Iterator[Session]:
        """A session that holds as much of a prompt as an earlier text had in common with it.

        One is kept between calls; a second call at the same time gets a new one.
        """
        self.check_open()
        try:
            session = self._idle.pop()
        except IndexError:
            session = Session(self._runner)
        try:
            session.reuse(token_ids)
            yield session
        finally:
            self._idle.append(session)
            self._keep_idle(1 if self._is_open else 0)

    def _keep_idle(self, n_sessions: int) -> None:
        """Close idle sessions but for the last so many. Without a lock, which a forked child might find held for ever."""
        while len(self._idle) > n_sessions:
            with suppress(IndexError):  # another thread was faster
                self._idle.pop(0).close()


class SyncEmbeddingModel(LoadedModel):
    """A Gemma that turns texts into vectors: EmbeddingGemma, or the mean hidden state of a generative one.

    A text's vector does not depend on the texts it is embedded with. Calls from several threads are legal.
    """

    def __init__(self, model: str | os.PathLike[str] | EmbeddingConfig, **options: Any) -> None:
        """Load a model.

        Args:
            model: Path of a sentence-transformers folder or of a .gguf file, the name of a model in the model folder, or an
                EmbeddingConfig.
            options: Fields of EmbeddingConfig; they override those of the config.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelFormatError: Its file is damaged.
            UnsupportedModelError: It is none that mogemma runs, or lacks the heads that its vectors need.
            ConfigError: An option is unknown or out of range.
        """
        self._config = read_config(EmbeddingConfig, model, options)
        config = self._config
        with ExitStack() as opened:
            checkpoint = opened.enter_context(open_checkpoint(find_model(config.model)))
            runner = opened.enter_context(
                Runner(
                    checkpoint,
                    context=None,
                    most_context=EMBEDDING_CONTEXT,
                    threads=config.threads,
                    arithmetic=config.arithmetic,
                    max_tokens=config.batch_tokens,
                    runs_whole=True,
                )
            )
            self._embedder = Embedder(runner)
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
        return with_task(text, name)


EmbeddingModel = SyncEmbeddingModel


def _pieces(context: Any) -> Iterator[str]:
    """Enter a generation at once, so that errors come with the call, and give its pieces of text."""
    generation = context.__enter__()

    def pieces() -> Iterator[str]:
        try:
            yield from (step.text for step in generation if step.text)
        finally:
            context.__exit__(None, None, None)

    return pieces()


def _tokenizer_of(checkpoint: Checkpoint, runner: Runner) -> Tokenizer:
    if checkpoint.kind == "gguf":
        return Tokenizer.from_gguf(checkpoint.metadata)
    path = Path(checkpoint.path)
    folder = path if path.is_dir() else path.parent
    return Tokenizer.from_folder(folder, add_eos=None if runner.spec.is_causal else True)


def _file_sampling(checkpoint: Checkpoint) -> SamplingConfig:
    if checkpoint.kind == "gguf":
        return file_sampling(checkpoint.metadata, checkpoint.path)
    return file_sampling(_generation_config(checkpoint), checkpoint.path)


def _generation_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    config = checkpoint.read_json("generation_config.json")
    return config if isinstance(config, dict) else {}


def _listed_stop_ids(checkpoint: Checkpoint) -> list[int]:
    """What generation_config.json lists as ends of a text."""
    if checkpoint.kind == "gguf":
        return []
    ids = _generation_config(checkpoint).get("eos_token_id", [])
    return [token_id for token_id in (ids if isinstance(ids, list) else [ids]) if isinstance(token_id, int)]


def _file_prompts(checkpoint: Checkpoint) -> Mapping[str, str]:
    config = None if checkpoint.kind == "gguf" else checkpoint.read_json("config_sentence_transformers.json")
    prompts = config.get("prompts", {}) if isinstance(config, dict) else {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelFormatError(f"{checkpoint.path}: 'prompts' in config_sentence_transformers.json are no texts.")
    return prompts


def _log_probabilities(logits: NDArray[np.float32], token_ids: Sequence[int]) -> NDArray[np.float32]:
    """Log-probability of token i under row i of logits."""
    best = logits.max(axis=1, keepdims=True)
    totals = np.log(np.exp(logits - best).sum(axis=1, dtype=np.float64))
    chosen = logits[np.arange(len(token_ids)), token_ids]
    scores: NDArray[np.float32] = (chosen - best[:, 0] - totals).astype(np.float32)
    return scores
