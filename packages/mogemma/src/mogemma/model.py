"""A model that writes: checkpoint ── Runner ── Session ── Generation ──> text. `async_model.py` has it for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .chat import ChatFormat, divide_options, end_of, events_of, read_choice
from .checkpoint import Checkpoint, open_checkpoint
from .config import GenerationConfig, SamplingConfig, file_sampling, read_config, resolve_sampling
from .errors import ContextFullError, TokenizerError, UnsupportedModelError
from .generate import Generation, most_tokens
from .hub.known import GENERATOR
from .hub.locate import locate
from .loaded_model import LoadedModel, Progress, Prompt
from .options import token_set
from .session import Runner, Session, or_larger_context
from .templates.template import PLAIN
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ._native import Cancel
    from .completion import ChatEvent, Completion
    from .config import ChatOptions, Sampling, SamplingOptions
    from .templates import AnswerFormat, Messages

_Piece = TypeVar("_Piece")

_SCORE_CHUNK = 64
"""Tokens whose logits are held at once while a text is scored."""


class SyncGemmaModel(LoadedModel):
    """A Gemma that writes text.

    Calls from several threads are legal: each text has a KV cache of its own, and forward passes take turns.
    """

    def __init__(self, model: str | os.PathLike[str] | GenerationConfig | None = None, **options: Any) -> None:
        """Load a model.

        Args:
            model: Path of a .gguf file or of a folder with safetensors, a known name such as gemma-3-1b-it, what the hub
                calls a model (org/name:Q8_0), the name of a file in the model folder, or a GenerationConfig. What is not on
                this machine is downloaded. Default: gemma-3-270m-it.
            options: Fields of GenerationConfig; they override those of the config.

        Raises:
            ModelNotFoundError: There is no such model.
            DownloadError: It could not be downloaded.
            ModelFormatError: Its file is damaged.
            UnsupportedModelError: It is none that mogemma runs, or it only embeds.
            ConfigError: An option is unknown or out of range.
        """
        self._config = read_config(GenerationConfig, model, options)
        config = self._config
        template_choice = read_choice(config.chat_template)
        with ExitStack() as opened:
            checkpoint = opened.enter_context(open_checkpoint(locate(config.model, default=GENERATOR).path))
            runner = opened.enter_context(
                Runner(
                    checkpoint,
                    context=config.context,
                    threads=config.threads,
                    arithmetic=config.arithmetic,
                    quantize=config.quantize,
                    cache=config.cache,
                )
            )
            self._idle = [Session(runner)]
            self._listed_sampling = _file_sampling(checkpoint, runner.spec.vocab_size)
            self._listed_stop_ids = _listed_stop_ids(checkpoint)
            super().__init__(checkpoint, runner)
            self._chat_format = ChatFormat(runner.spec.family, template_choice, checkpoint, self._tokenizer)
            opened.pop_all()  # all is well: they stay open until close()

    def generate(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> str:
        """Continue a text; errors as in `complete`, and TokenizerError for token ids where no tokenizer can write text."""
        with self.text_generation(prompt, **options) as generation:
            return generation.finish().text

    def generate_stream(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> Iterator[str]:
        """The same, piece by piece; joined they are the text. Leaving the iterator ends the work."""
        return _read_out(self.text_generation(prompt, **options), _texts)

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
            prompt: A text, before which BOS is put; or token ids, which is all that a model without a tokenizer takes and
                gives: the text is then empty.
            stop_ids: Tokens that end the text; default: the model's own. None at all: generate until max_tokens.
            on_progress: Called during prefill with the prompt's tokens that are done and those in all.
            options: Fields of SamplingConfig; unset ones come from the config, then the file, then Gemma's defaults.

        Raises:
            ContextFullError: The prompt, or the prompt and max_tokens together, do not fit the context.
            ConfigError: An option is unknown or out of range, or `stop_ids` has what is no token.
            TokenizerError: The text is no valid Unicode, or the model has no tokenizer for it.
        """
        with self.generation(prompt, stop_ids=stop_ids, on_progress=on_progress, **options) as generation:
            return generation.finish()

    def chat(
        self, messages: Messages, *, on_progress: Progress | None = None, **options: Unpack[ChatOptions]
    ) -> Completion:
        """Answer the last of a list of messages `{"role": ..., "content": ...}`, as the family was trained to.

        What the model thinks and which tools it calls are fields of the result; `Completion.message` is the answer as a
        message, to which results of tools and what the user says next are appended. What earlier turns share with the
        last call is taken from the KV cache.

        Args:
            options: Fields of ChatOptions: those of `generate`, and `tools`, `thinking`, `strict`, `parse_special`.

        Raises:
            PromptError: A message or a tool is malformed, or the model's template cannot hold the conversation.
        """
        with self.chat_generation(messages, on_progress=on_progress, **options) as generation:
            return generation.finish()

    def chat_stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> Iterator[str]:
        """The answer piece by piece; joined they are its text. Leaving the iterator ends the work."""
        return _read_out(self.chat_generation(messages, **options), _texts)

    def chat_events(self, messages: Messages, **options: Unpack[ChatOptions]) -> Iterator[ChatEvent]:
        """The answer piece by piece, with what the model thinks and calls; the last event has the whole completion."""
        return _read_out(self.chat_generation(messages, **options), _events)

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
        sampling = resolve_sampling(options, self._config, self._in_file)
        with self._generation(self._ids(prompt), sampling, stop_ids, on_progress, cancel) as generation:
            yield generation

    def text_generation(
        self, prompt: Prompt, *, cancel: Cancel | None = None, **options: Unpack[SamplingOptions]
    ) -> AbstractContextManager[Generation]:
        """The same where the text is all that is wanted: an error, rather than an empty one, where there is no tokenizer."""
        self.check_open()
        if self._speller is not self._tokenizer and not isinstance(prompt, str):
            raise TokenizerError(
                "This model has no tokenizer to write text with, and text is all that is asked for here; the token ids "
                "are in what complete() gives."
            )
        return self.generation(prompt, cancel=cancel, **options)

    @contextmanager
    def chat_generation(
        self,
        messages: Messages,
        *,
        on_progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[ChatOptions],
    ) -> Iterator[Generation]:
        """The same for a conversation: what `chat`, `chat_stream` and `chat_events` run."""
        self.check_open()
        request, others = divide_options(options)
        sampling = resolve_sampling(others, self._config, self._in_file)
        ids = self._chat_format.encode(messages, request)
        answer, tools = self._chat_format.template.answer, request.tool_names
        with self._generation(ids, sampling, None, on_progress, cancel, answer, tools) as generation:
            yield generation

    @contextmanager
    def _generation(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        stop_ids: Collection[int] | None,
        on_progress: Progress | None,
        cancel: Cancel | None,
        answer: AnswerFormat = PLAIN,
        tools: Collection[str] | None = None,
    ) -> Iterator[Generation]:
        if not ids:
            raise TokenizerError("The prompt is empty and this model puts no BOS before it. Give it some text.")
        if sampling.stop and self._speller is not self._tokenizer:
            raise TokenizerError(
                "stop looks for text, which this model has no tokenizer to write. Use stop_ids instead."
            )
        ends = self.stop_ids if stop_ids is None else token_set(self._vocab_size)("stop_ids", stop_ids)
        # Before a session forgets what it holds.
        most_tokens(len(ids), sampling.max_tokens, self._runner.context, self._runner.spec.context)
        with self._session(ids) as session:
            generation = Generation(
                session,
                self._speller,
                ids,
                sampling,
                stop_ids=ends,
                vocab_size=self._vocab_size,
                answer=answer,
                tools=tools,
                cancel=cancel,
                on_progress=on_progress,
            )
            try:
                yield generation
            finally:
                generation.close()

    @cached_property
    def _speller(self) -> Tokenizer:
        """The tokenizer; or, where none can be used, one without texts: token ids still go in and come out."""
        try:
            _ = self._tokenizer.vocab_size
        except (TokenizerError, UnsupportedModelError):
            return Tokenizer.without_texts(self._runner.spec.vocab_size)
        return self._tokenizer

    @cached_property
    def _vocab_size(self) -> int:
        """Tokens that can be chosen: a head may have rows that are none, and a tokenizer pieces without a row."""
        return min(self._runner.spec.vocab_size, self._speller.vocab_size)

    @cached_property
    def _in_file(self) -> SamplingConfig:
        """The file's own defaults. What it forbids beyond the vocabulary is never chosen anyway."""
        listed = self._listed_sampling
        if not listed.logit_bias:
            return listed
        bias = {token_id: value for token_id, value in listed.logit_bias.items() if token_id < self._vocab_size}
        return replace(listed, logit_bias=bias)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a text: end of sequence, what the model's files list, and what ends a turn or calls for tools.

        Without a tokenizer, which knows the names of others, those that are listed.
        """
        self.check_open()
        ids = {*self._listed_stop_ids}
        if self._speller is self._tokenizer:
            ids |= {self._tokenizer.eos_id, *self._chat_format.stop_ids}
        return frozenset(token_id for token_id in ids if token_id is not None)

    def logits(self, token_ids: Sequence[int], *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        """Logits of every token, float32 [n_tokens, vocab_size]: 1 MB a token for Gemma 3. Needs no tokenizer.

        Raises:
            ContextFullError: There are more tokens than the context holds; nothing was computed.
            OutOfMemoryError: Their logits do not fit into the available memory; nothing was computed.
        """
        ids = self._ids(token_ids)
        with closing(Session(self._runner)) as session:  # its own: the idle one may hold a conversation
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
                f"The text has {len(ids)} tokens, the context holds {self._runner.context}. Score it in parts"
                f"{or_larger_context(len(ids), self._runner.spec.context)}."
            )
        scores = np.empty(max(len(ids) - 1, 0), np.float32)
        with closing(Session(self._runner)) as session:  # as above
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


def _read_out(
    context: AbstractContextManager[Generation], read: Callable[[Generation], Iterator[_Piece]]
) -> Iterator[_Piece]:
    """Enter a generation at once, so that errors come with the call, and give what is read of it."""
    generation = context.__enter__()

    def pieces() -> Iterator[_Piece]:
        try:
            yield from read(generation)
        finally:
            context.__exit__(None, None, None)

    return pieces()


def _texts(generation: Generation) -> Iterator[str]:
    return (step.text for step in generation if step.text)


def _events(generation: Generation) -> Iterator[ChatEvent]:
    for step in generation:
        yield from events_of(step)
    yield end_of(generation)


def _file_sampling(checkpoint: Checkpoint, vocab_size: int) -> SamplingConfig:
    metadata = checkpoint.metadata if checkpoint.kind == "gguf" else _generation_config(checkpoint)
    return file_sampling(metadata, checkpoint.path, vocab_size=vocab_size)


def _generation_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    config = checkpoint.read_json("generation_config.json")
    return config if isinstance(config, dict) else {}


def _listed_stop_ids(checkpoint: Checkpoint) -> list[int | None]:
    """What a GGUF file, generation_config.json or, where that says nothing, config.json lists as ends of a text."""
    if checkpoint.kind == "gguf":
        listed = [checkpoint.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    else:
        ids = _generation_config(checkpoint).get("eos_token_id")
        if ids is None and isinstance(config := checkpoint.read_json("config.json"), dict):
            ids = config.get("eos_token_id")
        listed = ids if isinstance(ids, list) else [ids]
    return [token_id for token_id in listed if isinstance(token_id, int)]


def _log_probabilities(logits: NDArray[np.float32], token_ids: Sequence[int]) -> NDArray[np.float32]:
    """Log-probability of token i under row i of logits."""
    best = logits.max(axis=1, keepdims=True)
    totals = np.log(np.exp(logits - best).sum(axis=1, dtype=np.float64))
    chosen = logits[np.arange(len(token_ids)), token_ids]
    scores: NDArray[np.float32] = (chosen - best[:, 0] - totals).astype(np.float32)
    return scores
