"""The same models for asyncio: coroutines and async iterators that never block the event loop.

The work is done by one thread of the model's own, where the kernels release the GIL. It goes step by step, so that
several texts take turns and nothing is computed before it is asked for. Cancelling a task, or leaving an async iterator,
ends the forward pass under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._native import Cancel
from .chat import end_of, events_of
from .embedding_model import SyncEmbeddingModel
from .loaded_model import LoadedModel
from .model import SyncGemmaModel

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

    from .completion import ChatEvent, Completion
    from .config import ChatOptions, EmbeddingConfig, GenerationConfig, SamplingOptions
    from .generate import Generation
    from .info import ModelInfo
    from .loaded_model import Prompt
    from .templates import Messages
    from .tokenizer import Tokenizer

_Model = TypeVar("_Model", bound=LoadedModel)
_Result = TypeVar("_Result")


class _AsyncModel(Generic[_Model]):
    """A synchronous model and the thread that it works in."""

    def __init__(self, model: _Model) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mogemma")

    @property
    def tokenizer(self) -> Tokenizer:
        return self._model.tokenizer

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it costs at this moment."""
        return self._model.info

    async def count_tokens(self, text: str) -> int:
        """Tokens of a text as this model would read it, BOS included."""
        return await self._run(partial(self._model.count_tokens, text))

    async def close(self) -> None:
        """Wait for a running forward pass, then give all memory back."""
        await asyncio.get_running_loop().run_in_executor(None, self._model.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _Result], cancel: Cancel | None = None) -> _Result:
        """Do it in the model's thread; a cancelled task sets `cancel` and leaves."""
        self._model.check_open()
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await future
        except asyncio.CancelledError:
            if cancel is not None:
                cancel.set()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class AsyncGemmaModel(_AsyncModel[SyncGemmaModel]):
    """SyncGemmaModel with coroutines; what they take, give and raise is written there."""

    def __init__(self, model: str | os.PathLike[str] | GenerationConfig | None = None, **options: Any) -> None:
        super().__init__(SyncGemmaModel(model, **options))

    @classmethod
    async def load(cls, model: str | os.PathLike[str] | GenerationConfig | None = None, **options: Any) -> Self:
        """Load without blocking the event loop, which the constructor does for some milliseconds."""
        return await asyncio.to_thread(cls, model, **options)

    async def generate(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> str:
        cancel = Cancel()
        return (await self._finish(partial(self._model.text_generation, prompt, cancel=cancel, **options), cancel)).text

    async def complete(
        self, prompt: Prompt, *, stop_ids: Collection[int] | None = None, **options: Unpack[SamplingOptions]
    ) -> Completion:
        cancel = Cancel()
        start = partial(self._model.generation, prompt, stop_ids=stop_ids, cancel=cancel, **options)
        return await self._finish(start, cancel)

    async def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Completion:
        cancel = Cancel()
        return await self._finish(partial(self._model.chat_generation, messages, cancel=cancel, **options), cancel)

    def generate_stream(self, prompt: Prompt, **options: Unpack[SamplingOptions]) -> AsyncIterator[str]:
        cancel = Cancel()
        return self._stream(partial(self._model.text_generation, prompt, cancel=cancel, **options), cancel)

    def chat_stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> AsyncIterator[str]:
        cancel = Cancel()
        return self._stream(partial(self._model.chat_generation, messages, cancel=cancel, **options), cancel)

    async def chat_events(self, messages: Messages, **options: Unpack[ChatOptions]) -> AsyncIterator[ChatEvent]:
        cancel = Cancel()
        start = partial(self._model.chat_generation, messages, cancel=cancel, **options)
        async with self._generation(start, cancel) as generation:
            while (step := await self._run(partial(next, generation, None), cancel)) is not None:
                for event in events_of(step):
                    yield event
            yield end_of(generation)

    async def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        cancel = Cancel()
        return await self._run(partial(self._model.logits, token_ids, cancel=cancel), cancel)

    async def score(self, text: Prompt) -> NDArray[np.float32]:
        cancel = Cancel()
        return await self._run(partial(self._model.score, text, cancel=cancel), cancel)

    async def _finish(self, start: Callable[[], AbstractContextManager[Generation]], cancel: Cancel) -> Completion:
        async with self._generation(start, cancel) as generation:
            while await self._run(partial(next, generation, None), cancel) is not None:
                pass
            return generation.finish()

    async def _stream(
        self, start: Callable[[], AbstractContextManager[Generation]], cancel: Cancel
    ) -> AsyncIterator[str]:
        async with self._generation(start, cancel) as generation:
            while (step := await self._run(partial(next, generation, None), cancel)) is not None:
                if step.text:
                    yield step.text

    @asynccontextmanager
    async def _generation(
        self, start: Callable[[], AbstractContextManager[Generation]], cancel: Cancel
    ) -> AsyncIterator[Generation]:
        context = await self._run(start)
        try:
            yield await self._run(context.__enter__, cancel)
        finally:
            cancel.set()
            # In the model's thread, behind the step that may still run there; not awaited, for this task may be cancelled.
            with suppress(RuntimeError):  # the model was closed, and with it the thread
                self._thread.submit(context.__exit__, None, None, None)


class AsyncEmbeddingModel(_AsyncModel[SyncEmbeddingModel]):
    """SyncEmbeddingModel with coroutines; what they take, give and raise is written there."""

    def __init__(self, model: str | os.PathLike[str] | EmbeddingConfig | None = None, **options: Any) -> None:
        super().__init__(SyncEmbeddingModel(model, **options))

    @classmethod
    async def load(cls, model: str | os.PathLike[str] | EmbeddingConfig | None = None, **options: Any) -> Self:
        """Load without blocking the event loop, which the constructor does for some milliseconds."""
        return await asyncio.to_thread(cls, model, **options)

    @property
    def dimensions(self) -> int:
        """Size of a full vector."""
        return self._model.dimensions

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts that the model's own files name."""
        return self._model.prompts

    async def embed(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[int]],
        *,
        dimensions: int | None = None,
        prompt: str | None = None,
    ) -> NDArray[np.float32]:
        cancel = Cancel()
        work = partial(self._model.embed, texts, dimensions=dimensions, prompt=prompt, cancel=cancel)
        return await self._run(work, cancel)

    async def embed_query(self, text: str | Sequence[str], *, dimensions: int | None = None) -> NDArray[np.float32]:
        cancel = Cancel()
        work = partial(self._model.embed_query, text, dimensions=dimensions, cancel=cancel)
        return await self._run(work, cancel)

    async def embed_documents(
        self,
        texts: Sequence[str],
        *,
        titles: Sequence[str | None] | None = None,
        dimensions: int | None = None,
    ) -> NDArray[np.float32]:
        cancel = Cancel()
        work = partial(self._model.embed_documents, texts, titles=titles, dimensions=dimensions, cancel=cancel)
        return await self._run(work, cancel)
