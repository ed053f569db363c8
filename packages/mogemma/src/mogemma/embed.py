"""Token ids to unit vectors: batches by length inside, the caller's order outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._native import Cancel, SequenceRun
from .errors import ContextFullError
from .options import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from .session import Runner

BATCH_TOKENS = 512
"""Most tokens of one forward pass when texts are embedded, unless a single text is longer: enough to read weights seldom, few
enough for what a layer hands to the next to stay in the processor's caches."""


class Embedder:
    """Embeds sequences of token ids with a runner of its own.

    Attributes:
        dimensions: Size of a full vector.
    """

    def __init__(self, runner: Runner, batch_tokens: int = BATCH_TOKENS) -> None:
        self._runner = runner
        self._batch_tokens = min(batch_tokens, runner.engine.max_tokens)
        self.dimensions: int = runner.engine.embedding_dim

    def embed(
        self,
        sequences: Sequence[Sequence[int]],
        *,
        dimensions: int | None = None,
        normalize: bool = True,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed each sequence by itself: a vector does not depend on what shares its batch.

        Args:
            sequences: Token ids of each text, special tokens included.
            dimensions: Keep the first so many numbers (Matryoshka, arXiv:2205.13147) and bring them to unit length.
            normalize: Bring cut vectors to unit length again; full ones have it anyway.
            cancel: Ends the work between layers.
            on_progress: Called after each batch with the texts done and the texts in all.

        Returns:
            float32 [n_sequences, dimensions], in the order given.

        Raises:
            ContextFullError: A text is longer than the model's context; nothing was computed.
            ConfigError: `dimensions` is out of range.
        """
        size = self._checked(dimensions)
        ids = [self._fitting(sequence, index) for index, sequence in enumerate(sequences)]
        vectors = np.empty((len(ids), self.dimensions), np.float32)
        n_done = 0
        for batch in self._batches([len(one) for one in ids]):
            result = np.empty((len(batch), self.dimensions), np.float32)
            self._runner.engine.forward([SequenceRun(ids[i]) for i in batch], embeddings=result, cancel=cancel)
            vectors[batch] = result
            n_done += len(batch)
            if on_progress is not None:
                on_progress(n_done, len(ids))
        return _cut(vectors, size, normalize)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indices of the texts that run together: of similar length, as many as fit."""
        batch: list[int] = []
        n_tokens = 0
        for index in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (
                n_tokens + lengths[index] > self._batch_tokens or len(batch) == self._runner.engine.max_outputs
            ):
                yield batch
                batch, n_tokens = [], 0
            batch.append(index)
            n_tokens += lengths[index]
        if batch:
            yield batch

    def _fitting(self, token_ids: Sequence[int], index: int) -> NDArray[np.int32]:
        ids = self._runner.checked_ids(token_ids)
        if len(ids) > self._runner.context:
            raise ContextFullError(
                f"Text {index} has {len(ids)} tokens, this model holds {self._runner.context}. Shorten or split it; "
                "nothing was cut."
            )
        return ids

    def _checked(self, dimensions: int | None) -> int:
        if dimensions is None:
            return self.dimensions
        size: int = whole(1, self.dimensions, note=", the size of this model's vectors")("dimensions", dimensions)
        return size


def _cut(vectors: NDArray[np.float32], dimensions: int, normalize: bool) -> NDArray[np.float32]:
    if dimensions == vectors.shape[1]:
        return vectors
    cut = np.ascontiguousarray(vectors[:, :dimensions])
    if normalize:
        lengths = np.linalg.norm(cut, axis=1, keepdims=True)
        cut /= np.where(lengths > 0, lengths, np.float32(1))
    return cut
