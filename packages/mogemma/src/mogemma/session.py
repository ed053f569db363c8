"""Prefill and decode: a model in the kernels, and one KV cache with its position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._native import BestLogits, Cancel, Engine, SequenceRun, Wanted
from .architectures import read_architecture
from .cpu import available_cores, available_memory
from .errors import (
    ConfigError,
    ContextFullError,
    ModelClosedError,
    ModelFormatError,
    OutOfMemoryError,
    TokenizerError,
    UnsupportedModelError,
)
from .kv_cache import Rings, layer_caches
from .weight_types import WEIGHT_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from .checkpoint import Checkpoint
    from .config import Arithmetic, CacheFormat, Dense, Quantize

PREFILL_CHUNK = 256
"""Tokens of one prefill call: enough to amortise unpacking weights, few enough to be interrupted soon."""

_MOST_OF_MEMORY = 0.6
"""Part of the available memory that packed weights may take."""

_MOST_FOR_CACHE = 0.5
"""Part of the available memory that the cache of a default context may take when it is full."""

_MOST_FOR_LOGITS = 0.9
"""Part of the available memory that the logits of a text may take."""

_LEAST_CONTEXT = 512
"""A default context is not made smaller than this, however little memory there is."""

_NUMBER_BYTES = {"f32": 4, "f16": 2, "bf16": 2}

_ARITHMETIC = {"int8": "MOGEMMA_INT8", "float32": "MOGEMMA_FLOAT32", "bfloat16": "MOGEMMA_BFLOAT16"}
_CACHE = {"f32": "MOGEMMA_F32", "f16": "MOGEMMA_F16", "bf16": "MOGEMMA_BF16"}


class Runner:
    """A checkpoint that runs: its numbers, its weights and the engine over them. Sessions share it.

    Attributes:
        context: Positions that a session's cache holds.
        is_context_cut: It is less than the model's, because the cache of that would not fit into memory.
        packed_bytes: Weights kept in memory in the order in which they are read, by now; 0: all stay mapped, as in the file.
        is_short_of_memory: They stay mapped although packing them would pay, because they do not fit.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        context: int | None = None,
        threads: int | None = None,
        arithmetic: Arithmetic = "int8",
        quantize: Quantize | None = None,
        cache: CacheFormat | None = None,
        max_tokens: int = PREFILL_CHUNK,
        max_outputs: int | None = None,
        most_context: int | None = None,
        embeds: Dense | None = None,
        pack: bool | None = None,
        level: str | None = None,
    ) -> None:
        """Open an engine.

        Args:
            checkpoint: Stays the caller's, and open for as long as the runner is.
            context: At most the model's own. Default: that, if the cache fits into half of the available memory when it is
                full, or else the greatest power of two that does.
            threads: Default: the cores that this process may use.
            arithmetic: "int8" quantises activations against quantised weights; "float32" is exact to rounding; "bfloat16"
                is as "int8", but multiplies float weights, and the activations that meet them, rounded to bfloat16.
            quantize: Bring float weights to this format now, but those of the token embeddings; quantised ones stay.
            cache: Format of keys and values; default: "bf16", or "f16" where the layers' products are in float32.
            max_tokens: Most tokens in one forward pass.
            max_outputs: Most rows of logits or embeddings in one pass; default: as many as tokens.
            most_context: The default context is no more than this.
            embeds: Texts come whole, so that one pass must take as many tokens as the context holds, and want no logits; "skip"
                leaves out the dense heads that an embedding model has. Default: they are to be continued.
            pack: Keep the weights in memory in the order in which they are read, and give back their pages in the file;
                default: where the arithmetic gains by it and they fit. With `quantize` always.
            level: CPU level of the kernels; default: the best that runs here.

        Raises:
            ConfigError: An option is out of range.
            ModelFormatError: The checkpoint contradicts itself.
            UnsupportedModelError: It holds no model that runs here.
            OutOfMemoryError: The weights do not fit as `quantize` wants them.
        """
        architecture = read_architecture(checkpoint, skip_dense=embeds == "skip")
        self.architecture = architecture
        self.spec = architecture.spec
        self.arithmetic: Arithmetic = arithmetic
        self.quantize: Quantize | None = quantize
        self.cache_format: CacheFormat = cache or ("bf16" if self._rounds_activations() else "f16")
        self.kv_token_bytes = self.spec.kv_numbers * _NUMBER_BYTES[self.cache_format]
        self.context = self._context(context, most_context, keeps_cache=not embeds)
        self.is_context_cut = context is None and self.context < min(
            self.spec.context, most_context or self.spec.context
        )
        max_tokens = max(max_tokens, self.context) if embeds else min(max_tokens, self.context)
        options = {
            "n_threads": self._threads(threads),
            "max_tokens": max_tokens,
            "max_outputs": min(max_outputs or max_tokens, max_tokens),
            "n_context": self.context,
        }
        self.engine = Engine(
            architecture.struct,
            options,
            choices={"arithmetic": _ARITHMETIC[arithmetic], "cache_format": _CACHE[self.cache_format]},
            level=level,
        )
        self.is_short_of_memory = False
        self._pack(checkpoint.forget, pack, with_head=not embeds)

    def _rounds_activations(self) -> bool:
        """Whether the layers' products are of rounded numbers, so that attention may be of such too."""
        has_integers = self.quantize not in {None, "bf16"} or self.architecture.is_quantised
        return self.arithmetic == "bfloat16" or (self.arithmetic == "int8" and has_integers)

    @property
    def packed_bytes(self) -> int:
        """Weights that are in memory in the order in which they are read, by now."""
        return self.engine.matrices.in_memory_bytes

    def _pack(self, on_slice: Callable[[], None], wanted: bool | None, *, with_head: bool) -> None:
        """Spend memory of the weights' size on faster reading, where that pays.

        Weights that are quantised in the file give the same bits either way: they are packed in the background, later.

        Their pages in the file are given back meanwhile, but those the system may take back and read again, which it cannot
        do with packed ones: so they have to fit well.
        """
        target = self.quantize or ("bf16" if self.arithmetic == "bfloat16" else None)
        floats_as = None if target is None else WEIGHT_TYPES[target]
        try:
            size = self.engine.matrices.packed_bytes(floats_as=floats_as, with_head=with_head)
            fits = size < _MOST_OF_MEMORY * available_memory()
            if self.quantize is not None:
                if not fits:
                    raise OutOfMemoryError(
                        f"quantize={self.quantize!r} would keep {size / 2**20:,.0f} MB of weights in memory, more than "
                        "is free with room to work. Close other programs, or load a file that is quantised already."
                    )
            elif wanted is None:
                pays = size > 0 and self._rounds_activations()
                self.is_short_of_memory = pays and not fits
                wanted = pays and fits
                if wanted and self.arithmetic == "int8":
                    self.engine.matrices.pack_later(on_slice, with_head=with_head)
                    return
            if wanted or self.quantize is not None:
                self.engine.matrices.pack(on_slice, floats_as=floats_as, with_head=with_head)
        except BaseException:
            self.engine.close()
            raise

    def _context(self, wanted: int | None, most: int | None, *, keeps_cache: bool) -> int:
        if wanted is None:
            model = min(self.spec.context, most or self.spec.context)
            return min(model, self._fitting_context()) if keeps_cache else model
        if not 1 <= wanted <= self.spec.context:
            raise ConfigError(
                f"context={wanted} is out of range: this model holds 1 to {self.spec.context} tokens. It was not made for "
                "more, the scaling of positions in its configuration counted in."
            )
        return wanted

    def _fitting_context(self) -> int:
        """The model's own, if its cache fits, or else the greatest power of two that does."""
        room = _MOST_FOR_CACHE * available_memory()
        if self.spec.context * self.kv_token_bytes <= room:
            return self.spec.context
        return max(_LEAST_CONTEXT, 1 << int(room // self.kv_token_bytes).bit_length() >> 1)

    def _threads(self, wanted: int | None) -> int:
        threads = available_cores() if wanted is None else wanted
        if not 1 <= threads <= 256:
            raise ConfigError(f"threads={threads} is out of range: 1 to 256, at best the number of cores.")
        return threads

    def checked_ids(self, token_ids: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
        """The ids as int32, each of them in the vocabulary.

        Raises:
            TokenizerError: There is none, or one of them is no token.
        """
        try:
            ids = np.asarray(token_ids)
        except ValueError:  # lists in it, of different lengths
            ids = np.empty(0)
        if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
            raise TokenizerError("Token ids must be a sequence of at least one whole number.")
        if (wrong := ids[(ids < 0) | (ids >= self.spec.vocab_size)]).size:
            raise TokenizerError(
                f"Token id {wrong[0]} is out of range: this model has 0 to {self.spec.vocab_size - 1}."
            )
        return np.ascontiguousarray(ids, np.int32)

    def close(self) -> None:
        """Stop the threads and give the memory back; sessions are unusable from then on."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Session:
    """One sequence: its KV cache and the tokens that it holds.

    Attributes:
        token_ids: What the cache holds, from the first token on.
    """

    def __init__(self, runner: Runner) -> None:
        if not runner.spec.is_causal:
            raise UnsupportedModelError(
                f"This {runner.spec.family} model embeds text and cannot generate. Load it with EmbeddingModel."
            )
        self._runner = runner
        self._cache = runner.engine.new_cache()
        self._logits: NDArray[np.float32] = np.empty((1, runner.spec.vocab_size), np.float32)
        layers = layer_caches(
            runner.spec,
            context=runner.context,
            max_tokens=runner.engine.max_tokens,
            number_bytes=_NUMBER_BYTES[runner.cache_format],
        )
        self._rings = Rings(runner.engine, self._cache, layers, runner.context)
        self._is_open = True
        self.token_ids: list[int] = []

    @property
    def position(self) -> int:
        """Tokens that the cache holds."""
        return len(self.token_ids)

    @property
    def context(self) -> int:
        """Positions that the cache has room for."""
        return self._runner.context

    @property
    def max_context(self) -> int:
        """The largest context that the model can be loaded with."""
        return self._runner.spec.context

    def prefill(
        self,
        token_ids: Sequence[int],
        *,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Append tokens, a chunk at a time.

        Args:
            token_ids: At least one.
            cancel: Ends the call early; the position is then that of the last whole chunk.
            on_progress: Called after each chunk with the tokens done and the tokens in all.

        Returns:
            Logits of the last token, float32 [vocab_size]: the session's own array, overwritten by its next call.

        Raises:
            ContextFullError: They do not fit; nothing was computed.
        """
        last = self._all_but_the_last_chunk(token_ids, cancel, on_progress)
        self._append(last, 1, self._logits, cancel)
        if on_progress is not None:
            on_progress(len(token_ids), len(token_ids))
        return self._logits.reshape(-1)

    def best(
        self,
        token_ids: Sequence[int],
        wanted: Wanted,
        *,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> BestLogits:
        """The same as `prefill`, or as `decode` of one token, where the greatest logits are enough: most of a large head
        is then not read.
        """
        last = self._all_but_the_last_chunk(token_ids, cancel, on_progress)
        best = self._runner.engine.best(self._run(last, 1), wanted, cancel=cancel)
        self.token_ids.extend(last.tolist())
        if on_progress is not None:
            on_progress(len(token_ids), len(token_ids))
        return best

    def _all_but_the_last_chunk(
        self, token_ids: Sequence[int], cancel: Cancel | None, on_progress: Callable[[int, int], None] | None
    ) -> NDArray[np.int32]:
        """Append tokens a chunk at a time, and give the chunk that is left."""
        ids = self._fitting(token_ids)
        chunk = self._runner.engine.max_tokens
        while len(ids) > chunk:
            self._append(ids[:chunk], 0, None, cancel)
            ids = ids[chunk:]
            if on_progress is not None:
                on_progress(len(token_ids) - len(ids), len(token_ids))
        return ids

    def decode(self, token_id: int, *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        """Append one token; the same as `prefill` of it alone."""
        self._append(self._fitting([token_id]), 1, self._logits, cancel)
        return self._logits.reshape(-1)

    def logits(
        self,
        token_ids: Sequence[int],
        *,
        cancel: Cancel | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Append tokens; logits of every one of them, float32 [n_tokens, vocab_size], the caller's own.

        Raises:
            ContextFullError: They do not fit; nothing was computed.
            OutOfMemoryError: Their logits do not; nothing was computed.
            ModelFormatError: A logit is not finite.
        """
        ids = self._fitting(token_ids)
        logits = _room_for_logits(len(ids), self._runner.spec.vocab_size)
        chunk = min(self._runner.engine.max_tokens, self._runner.engine.max_outputs)
        for first in range(0, len(ids), chunk):
            part, rows = ids[first : first + chunk], logits[first : first + chunk]
            self._append(part, len(part), rows, cancel)
            if not np.isfinite(rows).all():
                raise ModelFormatError("The model computed logits that are not finite: its weights are damaged.")
            if on_progress is not None:
                on_progress(first + len(part), len(ids))
        return logits

    def reuse(self, token_ids: Sequence[int]) -> int:
        """Keep what the cache has in common with a new prompt, but its last token, and forget the rest.

        After an answer of more than a call's tokens, that is as far as a copy of the windows goes, which was taken where the
        answer began.

        Returns:
            The position from which `token_ids` remains to be prefilled: 0 when nothing could be kept.
        """
        n = 0
        for ours, theirs in zip(self.token_ids, token_ids[:-1], strict=False):
            if ours != theirs:
                break
            n += 1
        self.rewind(self._rings.nearest(n))
        self._rings.expect(len(token_ids))
        return self.position

    def rewind(self, position: int) -> bool:
        """Forget the tokens from `position` on, if what every sliding window needs before it is still there, or in the copy.

        Returns:
            Whether it was done. When not, the session is as it was.
        """
        if not 0 <= position <= self.position or self._rings.nearest(position) < position:
            return False
        kept = self.token_ids[:position]
        self.token_ids.clear()  # an interrupt on the way leaves an empty session, not a wrong one
        self._rings.go_back(position)
        self.token_ids.extend(kept)
        return True

    def _fitting(self, token_ids: Sequence[int]) -> NDArray[np.int32]:
        if not self._is_open:
            raise ModelClosedError("This session was closed. Open another on the model.")
        ids = self._runner.checked_ids(token_ids)
        if self.position + len(ids) > self.context:
            raise ContextFullError(
                f"{self.position} tokens are in the context and {len(ids)} more do not fit: it holds {self.context}. "
                f"Shorten the prompt{or_larger_context(self.position + len(ids), self.max_context, 'or more')}."
            )
        return ids

    def _append(
        self, ids: NDArray[np.int32], n_outputs: int, logits: NDArray[np.float32] | None, cancel: Cancel | None
    ) -> None:
        self._runner.engine.forward([self._run(ids, n_outputs)], logits=logits, cancel=cancel)
        self.token_ids.extend(ids.tolist())

    def _run(self, ids: NDArray[np.int32], n_outputs: int) -> SequenceRun:
        # Even a cancelled call may write its keys over older ones.
        self._rings.write(self.position, len(ids))
        return SequenceRun(ids, self._cache, self.position, n_outputs)

    def close(self) -> None:
        """Give the cache back."""
        self._is_open = False
        self._rings.close()
        self._cache.close()


def _room_for_logits(n_tokens: int, vocab_size: int) -> NDArray[np.float32]:
    """An array [n_tokens, vocab_size], if the memory for it is there: the system gives it, and may kill who fills it."""
    n_bytes = n_tokens * vocab_size * 4
    try:
        if n_bytes <= _MOST_FOR_LOGITS * available_memory():
            return np.empty((n_tokens, vocab_size), np.float32)
    except MemoryError:
        pass
    raise OutOfMemoryError(
        f"The logits of {n_tokens} tokens take {n_bytes / 2**20:,.1f} MB, {vocab_size * 4:,} bytes for each, and so much memory "
        "is not free. Ask for those of fewer tokens, or use score(), which keeps one number of each."
    )


def or_larger_context(n_tokens: int, max_context: int, more: str = "") -> str:
    """The end of an advice on what does not fit: a context for so many tokens, if the model can be loaded with that."""
    if n_tokens > max_context:
        return f": this model holds at most {max_context} tokens, however it is loaded"
    return f", or load the model with context={n_tokens}{' ' * bool(more)}{more}"
