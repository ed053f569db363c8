"""A model in the kernels: runs of tokens in, logits, hidden states or embeddings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import KernelError
from .calls import BestLogits, Cancel, SequenceRun, Wanted
from .handle import Handle
from .kernel import load_kernel
from .matrix import matrices_of
from .memory import Memory
from .packing import Matrices, check_quantized
from .structs import Structs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_LEAST_VOCABULARY = 16_384
"""A smaller head is read as a whole: there is little to save, and steps of their own to choose what is read."""


class Engine:
    """A model in the kernels: its numbers, its worker threads and the scratch memory of one call.

    Calls from several threads wait for each other. Not usable in a forked child, where the worker threads are missing.

    Attributes:
        handle: When it may be used, and its end.
        matrices: What its tokens are multiplied by, which can be packed.
        embedding_dim: What the last of the dense heads gives; without one, `hidden_dim`.
        max_tokens: Of one call.
        max_outputs: Of one call.
        cache_bytes: Size of the keys and values of one sequence.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        options: Mapping[str, int],
        *,
        choices: Mapping[str, str],
        level: str | None = None,
    ) -> None:
        """Check and open.

        Args:
            model: `mogemma_model` as a mapping from field to value.
            options: The numbers of `mogemma_options`.
            choices: Its other fields, by the header's names of their values.
            level: CPU level of the kernels; default: the best that runs here.

        Raises:
            ModelFormatError: The numbers of the model do not fit each other.
            ConfigError: An option is out of range.
            OutOfMemoryError: There is no memory or no thread to be had.
        """
        self.kernel = load_kernel(level)
        lib = self.kernel.lib
        chosen = {field: getattr(lib, name) for field, name in choices.items()}
        structs = Structs(self.kernel)
        try:
            self._model = structs.new("model", model)
            self._options = structs.new("options", {**options, **chosen})
            self.handle = Handle(self.kernel, structs, self._model, self._options)
        except BaseException:
            structs.release()
            raise
        # Read now: once the engine is closed, the structs point to nothing.
        self.vocab_size: int = self._model.vocab_size
        self.hidden_dim: int = self._model.hidden_dim
        dense = [self._model.dense[i].n_rows for i in range(self._model.n_dense)]
        self.embedding_dim: int = dense[-1] if dense else self.hidden_dim
        self.max_tokens: int = self._options.max_tokens
        self.max_outputs: int = self._options.max_outputs
        self.n_threads: int = self._options.n_threads
        self.cache_bytes: int = lib.mogemma_cache_bytes(self._model, self._options)
        certifies = self.vocab_size >= _LEAST_VOCABULARY and self._options.arithmetic != lib.MOGEMMA_FLOAT32
        self.matrices = Matrices(
            self.kernel, self.handle, matrices_of(self.kernel, self._model, model), certifies=certifies
        )

    @property
    def n_bytes(self) -> int:
        """Size of the scratch memory; of that only what is used is resident."""
        return self.handle.n_bytes

    def new_cache(self) -> Memory:
        """Memory for the keys and values of one sequence."""
        return Memory(self.kernel, self.cache_bytes, "a KV cache")

    def forward(
        self,
        runs: Sequence[SequenceRun],
        *,
        logits: NDArray[np.float32] | None = None,
        hidden: NDArray[np.float32] | None = None,
        embeddings: NDArray[np.float32] | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """Run the tokens of all sequences through the model, and write what is asked for into the arrays given.

        Args:
            runs: Together at most `max_tokens` tokens and `max_outputs` outputs.
            logits: float32 [sum of n_outputs, vocab_size].
            hidden: float32 [sum of tokens, hidden_dim], after the final norm.
            embeddings: float32 [number of runs, embedding_dim], unit length.
            cancel: Ends the call early.

        Raises:
            CancelledError: `cancel` was set; what the caches hold from each position on is undefined.
            ModelFormatError: An embedding is not finite: the weights are damaged.
            ModelClosedError: The engine was closed, or belongs to the parent of this process.
        """
        batch, ids = self._batch(runs, cancel)
        n_outputs, n_tokens = sum(run.n_outputs for run in runs), sum(len(run.token_ids) for run in runs)
        arrays = [
            self._place(batch, "logits", logits, (n_outputs, self.vocab_size)),
            self._place(batch, "hidden", hidden, (n_tokens, self.hidden_dim)),
            self._place(batch, "embeddings", embeddings, (len(runs), self.embedding_dim)),
        ]
        self._forward(batch)
        del arrays, ids

    def best(self, run: SequenceRun, wanted: Wanted, *, cancel: Cancel | None = None) -> BestLogits:
        """Run a sequence with one output through the model, for its best logits.

        Raises:
            CancelledError: As in `forward`.
            ModelFormatError: A logit is not finite: the weights are damaged.
            ModelClosedError: As in `forward`.
        """
        batch, ids = self._batch([run], cancel)
        found = np.empty(wanted.k, np.int32), np.empty(wanted.k, np.float32)
        also_values = np.empty(len(wanted.also), np.float32)
        ffi = self.kernel.ffi
        candidates: Any = ffi.new("mogemma_candidates *")
        candidates.k, candidates.vocab_size, candidates.n_also = wanted.k, wanted.vocab_size, len(wanted.also)
        candidates.ids = ffi.from_buffer("int32_t[]", found[0], require_writable=True)
        candidates.logits = ffi.from_buffer("float[]", found[1], require_writable=True)
        candidates.also = ffi.from_buffer("int32_t[]", wanted.also)
        candidates.also_logits = ffi.from_buffer("float[]", also_values, require_writable=True)
        batch.candidates = candidates
        self._forward(batch)
        del ids
        return BestLogits(*found, wanted.also, also_values, candidates.n_finished)

    def _batch(self, runs: Sequence[SequenceRun], cancel: Cancel | None) -> tuple[Any, list[object]]:
        """A batch, and what has to be kept while it is in use."""
        ffi = self.kernel.ffi
        ids = [ffi.from_buffer("int32_t[]", run.token_ids) for run in runs]
        sequences = ffi.new("mogemma_sequence[]", len(runs))
        for i, run in enumerate(runs):
            sequence = sequences[i]
            sequence.cache = ffi.NULL if run.cache is None else run.cache.pointer
            sequence.token_ids = ids[i]
            sequence.n_tokens = len(run.token_ids)
            sequence.position = run.position
            sequence.n_outputs = run.n_outputs
        batch: Any = ffi.new("mogemma_batch *")
        batch.sequences = sequences
        batch.n_sequences = len(runs)
        if cancel is not None:
            batch.cancel = cancel.flag
        return batch, [*ids, sequences]

    def _forward(self, batch: Any) -> None:
        with self.handle.use() as engine:
            status = self.kernel.lib.mogemma_forward(engine, batch)
        self.kernel.check(status)
        self.matrices.count_call()

    def _place(self, batch: Any, field: str, array: NDArray[np.float32] | None, shape: tuple[int, int]) -> object:
        if array is None:
            return None
        if array.dtype != np.float32 or len(array) < shape[0] or array.shape[1:] != shape[1:]:
            raise KernelError(f"{field} must be float32 {shape}, not {array.dtype} {array.shape}.")
        buffer = self.kernel.ffi.from_buffer("float[]", array, require_writable=True)
        setattr(batch, field, buffer)
        return buffer

    def encoded(self, name: str, matrix: Mapping[str, Any], kind: int) -> NDArray[np.uint8]:
        """Rows of float weights in the blocks of another format, as a file stores them.

        Args:
            name: What an error calls them.
            matrix: `mogemma_matrix` as a mapping.
            kind: The header's number of a format that its rows are blocks of.

        Raises:
            ModelFormatError: A weight is not finite, or too large for the format.
        """
        ffi, lib, structs = self.kernel.ffi, self.kernel.lib, Structs(self.kernel)
        stored = structs.new("matrix", matrix)
        try:
            n_bytes = lib.mogemma_quantized_bytes(stored, kind, lib.MOGEMMA_STORED)
            if n_bytes <= 0:
                raise KernelError(f"{name} cannot be brought to format {kind}. Please report this as a bug in mogemma.")
            blocks = np.empty(n_bytes, np.uint8)
            place = ffi.from_buffer(blocks, require_writable=True)
            with self.handle.use() as engine:
                status = lib.mogemma_quantize(engine, stored, kind, lib.MOGEMMA_STORED, 0, matrix["n_rows"], place)
        finally:
            structs.release()
        check_quantized(self.kernel, status, name)
        return blocks

    def matmul(self, matrix: Mapping[str, Any], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x [n_tokens, n_columns] times a stored matrix, as the forward pass multiplies: for tests and benchmarks."""
        ffi, structs = self.kernel.ffi, Structs(self.kernel)
        y = np.empty((len(x), matrix["n_rows"]), np.float32)
        weights = structs.new("matrix", matrix)
        arrays = ffi.from_buffer("float[]", x), ffi.from_buffer("float[]", y, require_writable=True)
        try:
            with self.handle.use() as engine:
                status = self.kernel.lib.mogemma_matmul(engine, weights, arrays[0], len(x), arrays[1])
        finally:
            structs.release()
        self.kernel.check(status)
        return y

    def close(self) -> None:
        """Wait for a running call, stop the threads and give all memory back. Closing twice is harmless."""
        self.handle.close()
