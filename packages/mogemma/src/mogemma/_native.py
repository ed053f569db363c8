"""The border to the Mojo kernels, and the only file that says cffi.

    mogemma.h ── read by cffi ──> structs filled from plain mappings ── forward() ──> numpy arrays
                                                              a status ──> an exception

The library allocates nothing: all memory that it works in is mapped here, so that pages which are never touched cost
nothing and all of it goes back to the system in `close`.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cffi
import numpy as np

from .cpu import instruction_flags
from .errors import (
    CancelledError,
    ConfigError,
    KernelError,
    ModelClosedError,
    ModelFormatError,
    OutOfMemoryError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL_VARIABLE = "MOGEMMA_CPU_LEVEL"

_PACK_SLICE = 8 << 20
"""Bytes of weights that are packed before their stored pages are given back."""

_CALLS_BEFORE_PACKING = 64
"""Packing takes as long as it saves in about a hundred tokens: a short answer alone is faster without."""

_LEAST_VOCABULARY = 16_384
"""A smaller head is read as a whole: there is little to save, and steps of their own to choose what is read."""

STRUCTS = ("matrix", "rope", "expert", "layer", "model", "options", "sequence", "candidates", "batch")
"""In the order in which mogemma_struct_bytes counts them."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loaded kernel library."""

    ffi: cffi.FFI
    lib: Any
    level: str
    path: Path

    def status_name(self, status: int) -> str:
        """The header's name of a status, without its prefix."""
        names = ("BAD_ARGUMENT", "BAD_MODEL", "BAD_FORMAT", "BAD_TOKEN", "CONTEXT_FULL", "CANCELLED", "NO_THREADS")
        return {getattr(self.lib, f"MOGEMMA_{name}"): name for name in (*names, "NOT_FINITE")}.get(status, str(status))


def kernel_folder() -> Path:
    """Where the libraries and the header lie in this installation."""
    return Path(__file__).parent / "_kernel"


def declarations(header: str) -> str:
    """A C header without the preprocessor's conditions, which cffi does not read."""
    return re.sub(r"^\s*#\s*(ifndef|ifdef|if|endif|include|define\s+MOGEMMA_H)\b.*$", "", header, flags=re.MULTILINE)


def runnable_levels(folder: Path | None = None) -> dict[str, Path]:
    """The libraries that this processor can run, from the plainest to the most capable."""
    folder = kernel_folder() if folder is None else folder
    try:
        levels = json.loads((folder / "levels.json").read_text(encoding="utf-8"))["levels"]
    except (OSError, ValueError, KeyError) as error:
        raise KernelError(
            f"The kernels are missing from {folder} ({error}). Install a wheel of mogemma for this platform, "
            "or build it: `make install` in a clone of the repository."
        ) from error
    flags = instruction_flags()
    return {level["name"]: folder / level["library"] for level in levels if flags.issuperset(level["needs"])}


@cache
def load_kernel(level: str | None = None) -> Kernel:
    """Load the best library for this processor, or the level named here or in MOGEMMA_CPU_LEVEL.

    Raises:
        KernelError: There is none that this processor runs, or it does not fit this version of the package.
    """
    levels = runnable_levels()
    wanted = level or os.environ.get(LEVEL_VARIABLE) or next(reversed(levels), "")
    if wanted not in levels:
        raise KernelError(
            f"No kernel {wanted!r} for this processor; it can run: {', '.join(levels) or 'none of those installed'}. "
            f"Unset {LEVEL_VARIABLE} to take the best of them, or install a wheel for this platform."
        )
    ffi = cffi.FFI()
    ffi.cdef(declarations((kernel_folder() / "mogemma.h").read_text(encoding="utf-8")))
    try:
        lib: Any = ffi.dlopen(str(levels[wanted]))
    except OSError as error:
        raise KernelError(f"The kernel library cannot be loaded: {error}. Reinstall mogemma.") from error
    if (found := lib.mogemma_abi_version()) != lib.MOGEMMA_ABI_VERSION:
        raise KernelError(
            f"{levels[wanted]} speaks version {found} of mogemma.h, this package {lib.MOGEMMA_ABI_VERSION}. "
            "Reinstall mogemma."
        )
    return Kernel(ffi, lib, wanted, levels[wanted])


class Memory:
    """Zeroed memory of the system's, a whole number of pages; pages never touched are never made."""

    def __init__(self, kernel: Kernel, n_bytes: int, purpose: str, *, huge_pages: bool = False) -> None:
        try:
            # Private, for Python's default is shared memory, which hardly any system gives huge pages.
            self._map = mmap.mmap(-1, max(n_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
                self._map.madvise(mmap.MADV_HUGEPAGE)  # all of it is used, and faulting page by page would take longer
        except (OSError, ValueError, OverflowError) as error:
            raise OutOfMemoryError(
                f"The system gives no {n_bytes / 2**20:,.0f} MB for {purpose} ({error}). "
                "Load the model with a smaller context, or close other programs."
            ) from error
        self._ffi = kernel.ffi
        self.n_bytes = n_bytes
        self.pointer = kernel.ffi.from_buffer(self._map, require_writable=True)
        self._others: list[Memory] = []

    def fill(self, byte: int) -> None:
        """Write to every page, which makes it this process's own."""
        piece = bytes([byte]) * min(self.n_bytes, 1 << 20)
        for start in range(0, self.n_bytes, len(piece)):
            self._ffi.memmove(self.pointer + start, piece, min(len(piece), self.n_bytes - start))

    def keep(self, other: Memory) -> None:
        """Close another memory together with this one."""
        self._others.append(other)

    def close(self) -> None:
        """Give the memory back; the pointer is dead from then on."""
        for other in self._others:
            other.close()
        if not self._map.closed:
            self._ffi.release(self.pointer)
            self._map.close()


class Cancel:
    """A flag that ends a running call; set it from any thread."""

    def __init__(self) -> None:
        self.flag = load_kernel().ffi.new("int32_t *")

    def set(self) -> None:
        self.flag[0] = 1

    def is_set(self) -> bool:
        return bool(self.flag[0])


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """A sequence's part in a forward pass.

    Attributes:
        token_ids: int32, at least one.
        cache: Where its keys and values are kept; None: for this call only.
        position: Tokens that the cache holds already.
        n_outputs: How many of the last tokens get logits.
    """

    token_ids: NDArray[np.int32]
    cache: Memory | None = None
    position: int = 0
    n_outputs: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the logits of one token, where not all are.

    Attributes:
        k: How many of the greatest, not counting `also`.
        vocab_size: Tokens from here on are left out.
        also: Distinct tokens whose logits are wanted in any case, int32 [n]; k and these are at most `vocab_size`.
    """

    k: int
    vocab_size: int
    also: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BestLogits:
    """The k greatest logits of one token, the very numbers that are among all of them.

    Attributes:
        ids: Greatest first, equal ones by lower id, int32 [k].
        values: Their logits, float32 [k].
        also: Tokens that were asked for, and are not among those, int32 [n].
        also_values: Their logits, float32 [n].
        n_finished: Rows of the head that were read as a whole to be certain.
    """

    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    also: NDArray[np.int32]
    also_values: NDArray[np.float32]
    n_finished: int


@dataclass(frozen=True, slots=True)
class FloatsAs:
    """The formats that float weights are brought to, by the header's numbers: the first that a matrix's rows are blocks of.

    Attributes:
        layers: Of the matrices in layers.
        head: Of the one that gives logits.
        dense: Of those between the pooled hidden state and the embedding.
    """

    layers: tuple[int, ...]
    head: tuple[int, ...]
    dense: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Packing:
    """What one of an engine's matrices becomes: its format, layout and size then."""

    index: int
    format: int
    layout: int
    n_bytes: int


class _Structs:
    """Fills the header's structs from plain mappings, and keeps what they point to alive."""

    def __init__(self, ffi: cffi.FFI) -> None:
        self._ffi = ffi
        self._kept: list[object] = []

    def new(self, struct: str, fields: Mapping[str, Any]) -> Any:
        """A struct of that name. A mapping is a struct inside it, a list a pointer to structs, a buffer a pointer."""
        made = self._ffi.new(f"mogemma_{struct} *", self._fields(struct, fields))
        self._kept.append(made)
        return made

    def _fields(self, struct: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        types = dict(self._ffi.typeof(f"mogemma_{struct}").fields)
        return {name: self._value(types[name].type, value) for name, value in fields.items()}

    def _value(self, ctype: Any, value: Any) -> Any:
        if value is None:
            return self._ffi.NULL
        if isinstance(value, Mapping):
            return self._fields(ctype.cname.removeprefix("mogemma_"), value)
        if isinstance(value, list):
            struct = ctype.item.cname.removeprefix("mogemma_")
            array = self._ffi.new(f"mogemma_{struct}[]", [self._fields(struct, one) for one in value])
            self._kept.append(array)
            return array
        if isinstance(value, (np.ndarray, memoryview)):
            buffer = self._ffi.from_buffer(value)
            self._kept.append(buffer)
            return self._ffi.cast(ctype, buffer)
        return value

    def release(self) -> None:
        """Let go of the buffers, so that their files can be unmapped."""
        for kept in self._kept:
            if isinstance(kept, self._ffi.CData) and self._ffi.typeof(kept).kind == "array":
                self._ffi.release(kept)
        self._kept.clear()


class Engine:
    """A model in the kernels: its numbers, its worker threads and the scratch memory of one call.

    Calls from several threads wait for each other. Not usable in a forked child, where the worker threads are missing.
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
        ffi, lib = self.kernel.ffi, self.kernel.lib
        self._structs = _Structs(ffi)
        try:
            self._open(model, {**options, **{field: getattr(lib, name) for field, name in choices.items()}})
        except BaseException:
            self._structs.release()
            raise
        self._owner = os.getpid()
        # Runs once: in close(), when the engine is forgotten, or at exit. The threads must end before their memory does.
        self._shut = weakref.finalize(
            self,
            _shut_engine,
            self._is_closing,
            self._lock,
            lib,
            self._engine,
            self._structs,
            self._memory,
            self._owner,
        )

    def _open(self, model: Mapping[str, Any], options: Mapping[str, int]) -> None:
        ffi, lib = self.kernel.ffi, self.kernel.lib
        self._model = self._structs.new("model", model)
        self._options = self._structs.new("options", options)
        self._find_matrices(model)
        self.vocab_size: int = self._model.vocab_size
        self.hidden_dim: int = self._model.hidden_dim
        dense = [self._model.dense[i].n_rows for i in range(self._model.n_dense)]
        self.embedding_dim: int = dense[-1] if dense else self.hidden_dim
        self.max_tokens: int = self._options.max_tokens
        self.max_outputs: int = self._options.max_outputs
        self.n_threads: int = self._options.n_threads
        layer = ffi.new("int32_t *")
        n_bytes = lib.mogemma_engine_bytes(self._model, self._options, layer)
        if n_bytes < 0:
            self._refuse(-n_bytes, layer[0])
        self.cache_bytes: int = lib.mogemma_cache_bytes(self._model, self._options)
        self._lock = threading.RLock()
        self._is_closing = threading.Event()
        self._to_pack: tuple[Callable[[], None], bool] | None = None
        self._packer: threading.Thread | None = None
        self._n_calls = 0
        self.in_memory_bytes = 0
        self._memory = Memory(self.kernel, n_bytes, "the scratch memory of a call")
        self._engine = ffi.cast("mogemma_engine *", self._memory.pointer)
        if lib.mogemma_engine_open(self._model, self._options, self._engine):
            self._memory.close()
            raise OutOfMemoryError(f"The system gives no {self.n_threads} threads. Load the model with fewer.")

    def _find_matrices(self, model: Mapping[str, Any]) -> None:
        """Note every matrix that tokens are multiplied by, the dense heads before the head, which is the last, and its bytes
        as stored.
        """
        addressof = self.kernel.ffi.addressof
        found: list[tuple[Any, Mapping[str, Any], float, str]] = []

        def note(place: Any, at: str | int, given: Mapping[str, Any] | None, name: str, share: float = 1.0) -> None:
            if given is not None:
                found.append((addressof(place, at), given, share, name))

        names = self._names_of_matrices("layer")
        for index, layer in enumerate(model.get("layers") or []):
            place = self._model.layers[index]
            for name in names:
                note(place, name, layer.get(name), f"{name} of layer {index}")
            experts = layer.get("experts") or []
            for number, expert in enumerate(experts):
                share = layer["n_experts_used"] / len(experts)
                for name in self._names_of_matrices("expert"):
                    where = f"{name} of expert {number} of layer {index}"
                    note(place.experts[number], name, expert.get(name), where, share)
        note(self._model, "ple_projection", model.get("ple_projection"), "ple_projection")
        for field in ("stream_begin", "stream_end", "dense"):
            for index, one in enumerate(model.get(field) or []):
                note(getattr(self._model, field), index, one, f"{field} {index}")
        note(self._model, "head", model["head"], "the output head")
        self._matrices: list[Any] = [native for native, *_ in found]
        self._shares = [share for _, _, share, _ in found]
        self._names = [name for *_, name in found]
        data = [given.get("data") for _, given, *_ in found]
        self._matrix_bytes = [0 if one is None else memoryview(one).nbytes for one in data]

    def _names_of_matrices(self, struct: str) -> list[str]:
        """The fields that are matrices, but the router: on its choices all else hangs, so it stays as it is stored."""
        fields = self.kernel.ffi.typeof(f"mogemma_{struct}").fields
        return [name for name, field in fields if field.type.cname == "mogemma_matrix" and name != "router"]

    def _refuse(self, status: int, layer: int) -> None:
        name = self.kernel.status_name(status)
        if name == "BAD_ARGUMENT":
            raise ConfigError(f"An option of the engine is out of range: {self._describe_options()}.")
        where = "its own fields" if layer < 0 else f"layer {layer}"
        raise ModelFormatError(
            f"The kernels refuse the model: {name} in {where}. A weight is missing, or of a shape or a format that does "
            "not fit the others."
        )

    def _describe_options(self) -> str:
        names = ("n_threads", "max_tokens", "max_outputs", "n_context", "cache_format", "arithmetic")
        return ", ".join(f"{name}={getattr(self._options, name)}" for name in names)

    def packed_bytes(self, *, floats_as: FloatsAs | None = None, with_head: bool = True) -> int:
        """Bytes that `pack` would take."""
        return sum(packing.n_bytes for packing in self._packings(floats_as, with_head=with_head))

    def pack(
        self,
        on_slice: Callable[[], None],
        *,
        floats_as: FloatsAs | None = None,
        with_head: bool = True,
    ) -> None:
        """Pack the model's matrices, all but the token embeddings: they are then read in the order of use.

        A large head of Q8_0 goes into planes: `best` then reads little more than one of them (docs/certified-head.md).

        Args:
            on_slice: Called after every few megabytes, whose stored bytes are no longer read.
            floats_as: Formats that float weights are brought to, where their rows allow it.
            with_head: Pack the head too, which only logits need.

        Raises:
            ModelFormatError: A float weight is not finite, or too large for its format.
        """
        packings = self._packings(floats_as, with_head=with_head)
        if not packings:
            return
        packed = Memory(
            self.kernel, sum(packing.n_bytes for packing in packings), "the packed weights", huge_pages=True
        )
        with self._use():
            self._memory.keep(packed)
        start = 0
        for packing in packings:
            self._pack(packing, packed.pointer + start, on_slice)
            start += packing.n_bytes

    def pack_later(self, on_slice: Callable[[], None], *, with_head: bool = True) -> None:
        """Pack in the background after 64 calls, a short text that packing would only delay.

        The next call waits until it is done: read as stored in between, weights would come back into memory that was just
        given back. For weights that keep their format, and so give the same bits before and after.
        """
        self._to_pack = on_slice, with_head

    def finish_packing(self) -> None:
        """Pack now what `pack_later` has left for later, and wait until it is done."""
        self._start_packing()
        if self._packer is not None:
            self._packer.join()

    def _start_packing(self) -> None:
        with self._lock:
            to_pack, self._to_pack = self._to_pack, None
            if to_pack is not None:
                self._packer = threading.Thread(
                    target=self._pack_at_once, args=to_pack, name="mogemma-pack", daemon=True
                )
                self._packer.start()

    def _pack_at_once(self, on_slice: Callable[[], None], with_head: bool) -> None:
        # Without the memory, or once the model is closed, weights stay as they are stored.
        with suppress(OutOfMemoryError, ModelClosedError), self._use():
            self.pack(on_slice, with_head=with_head)

    @property
    def layer_bytes(self) -> int:
        """Bytes of the matrices that every token, or every embedding, is multiplied by, as they are read now; of experts as
        many as a token goes to.
        """
        return round(sum(n * share for n, share in zip(self._matrix_bytes[:-1], self._shares, strict=False)))

    @property
    def head_bytes(self) -> int:
        """Bytes of the matrix that gives the logits, as it is read now."""
        return self._matrix_bytes[-1]

    def _packings(self, floats_as: FloatsAs | None, *, with_head: bool) -> list[_Packing]:
        """What `_matrices` become where they can be packed; the head is the last of them."""
        lib = self.kernel.lib
        found = []
        for index, matrix in enumerate(self._matrices if with_head else self._matrices[:-1]):
            kind, layout, n_bytes = self._quantising(index, floats_as)
            if n_bytes <= 0:
                is_head = index == len(self._matrices) - 1
                layout = lib.MOGEMMA_PLANES if is_head and self._certifies() else layout
                n_bytes = lib.mogemma_packed_bytes(matrix, layout)
            if n_bytes > 0:
                found.append(_Packing(index, kind, layout, n_bytes))
        return found

    def _quantising(self, index: int, floats_as: FloatsAs | None) -> tuple[int, int, int]:
        """Format, layout and bytes of a matrix that is brought to another format; 0 bytes where it keeps its own."""
        lib, matrix, from_end = self.kernel.lib, self._matrices[index], len(self._matrices) - 1 - index
        if floats_as is not None:
            is_dense = 0 < from_end <= self._model.n_dense
            for kind in floats_as.dense if is_dense else floats_as.layers if from_end else floats_as.head:
                if kind == matrix.format:
                    break
                n_bytes = lib.mogemma_quantized_bytes(matrix, kind, lib.MOGEMMA_PACKED)
                if n_bytes > 0:
                    return kind, lib.MOGEMMA_PACKED, n_bytes
        return matrix.format, lib.MOGEMMA_PACKED, 0

    def _certifies(self) -> bool:
        """Whether it pays to keep the head in planes."""
        lib, head = self.kernel.lib, self._matrices[-1]
        is_large = self.vocab_size >= _LEAST_VOCABULARY and self._options.arithmetic != lib.MOGEMMA_FLOAT32
        return bool(is_large and lib.mogemma_packed_bytes(head, lib.MOGEMMA_PLANES) > 0)

    def _pack(self, packing: _Packing, memory: Any, on_slice: Callable[[], None]) -> None:
        """Pack one matrix, some rows at a time, so that little of it is ever in memory twice."""
        lib, matrix = self.kernel.lib, self._matrices[packing.index]
        n_rows = max(_PACK_SLICE * matrix.n_rows // packing.n_bytes // 16, 1) * 16
        for first in range(0, matrix.n_rows, n_rows):
            n = min(n_rows, matrix.n_rows - first)
            with self._use():
                if self._is_closing.is_set():
                    raise ModelClosedError("This model was closed while its weights were packed. Load it again.")
                if packing.format == matrix.format:
                    status = lib.mogemma_pack(self._engine, matrix, packing.layout, first, n, memory)
                else:
                    status = lib.mogemma_quantize(
                        self._engine, matrix, packing.format, packing.layout, first, n, memory
                    )
                    if self.kernel.status_name(status) == "NOT_FINITE":
                        raise _not_finite(self._names[packing.index])
                if status:
                    self._raise(status)
                on_slice()
        with self._use():
            matrix.data, matrix.format, matrix.layout = memory, packing.format, packing.layout
            self._matrix_bytes[packing.index] = packing.n_bytes
            self.in_memory_bytes += packing.n_bytes

    def encoded(self, name: str, matrix: Mapping[str, Any], kind: int) -> NDArray[np.uint8]:
        """Rows of float weights in the blocks of another format, as a file stores them.

        Args:
            name: What an error calls them.
            matrix: `mogemma_matrix` as a mapping.
            kind: The header's number of a format that its rows are blocks of.

        Raises:
            ModelFormatError: A weight is not finite, or too large for the format.
        """
        lib, structs = self.kernel.lib, _Structs(self.kernel.ffi)
        stored = structs.new("matrix", matrix)
        try:
            n_bytes = lib.mogemma_quantized_bytes(stored, kind, lib.MOGEMMA_STORED)
            if n_bytes <= 0:
                raise KernelError(f"{name} cannot be brought to format {kind}. Please report this as a bug in mogemma.")
            blocks = np.empty(n_bytes, np.uint8)
            memory = self.kernel.ffi.from_buffer(blocks, require_writable=True)
            with self._use():
                status = lib.mogemma_quantize(
                    self._engine, stored, kind, lib.MOGEMMA_STORED, 0, matrix["n_rows"], memory
                )
        finally:
            structs.release()
        if self.kernel.status_name(status) == "NOT_FINITE":
            raise _not_finite(name)
        if status:
            self._raise(status)
        return blocks

    @property
    def n_bytes(self) -> int:
        """Size of the scratch memory; of that only what is used is resident."""
        return self._memory.n_bytes

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
        with self._use():
            status = self.kernel.lib.mogemma_forward(self._engine, batch)
        if status:
            self._raise(status)
        if self._to_pack is not None:
            self._n_calls += 1
            if self._n_calls >= _CALLS_BEFORE_PACKING:
                self._start_packing()

    def _place(self, batch: Any, field: str, array: NDArray[np.float32] | None, shape: tuple[int, int]) -> object:
        if array is None:
            return None
        if array.dtype != np.float32 or len(array) < shape[0] or array.shape[1:] != shape[1:]:
            raise KernelError(f"{field} must be float32 {shape}, not {array.dtype} {array.shape}.")
        buffer = self.kernel.ffi.from_buffer("float[]", array, require_writable=True)
        setattr(batch, field, buffer)
        return buffer

    def _raise(self, status: int) -> None:
        name = self.kernel.status_name(status)
        if name == "CANCELLED":
            raise CancelledError("The call was cancelled; the model can be used again.")
        if name == "NOT_FINITE":
            raise ModelFormatError(
                "The model computed numbers that are not finite: its weights are damaged. Get the file again."
            )
        raise KernelError(f"The kernels refuse the call: {name}. Please report this as a bug in mogemma.")

    def matmul(self, matrix: Mapping[str, Any], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x [n_tokens, n_columns] times a stored matrix, as the forward pass multiplies: for tests and benchmarks."""
        ffi, structs = self.kernel.ffi, _Structs(self.kernel.ffi)
        y = np.empty((len(x), matrix["n_rows"]), np.float32)
        weights = structs.new("matrix", matrix)
        arrays = ffi.from_buffer("float[]", x), ffi.from_buffer("float[]", y, require_writable=True)
        with self._use():
            status = self.kernel.lib.mogemma_matmul(self._engine, weights, arrays[0], len(x), arrays[1])
        structs.release()
        if status:
            self._raise(status)
        return y

    def check_process(self) -> None:
        """Raise ModelClosedError in a forked child, where this engine cannot run."""
        if os.getpid() != self._owner:
            raise ModelClosedError(
                "This model was loaded before a fork, and its threads stayed with the parent. Load it in the child."
            )

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Keep the engine to oneself, and open."""
        self.check_process()
        with self._lock:
            if not self._shut.alive:
                raise ModelClosedError("This model was closed. Load it again.")
            yield

    def close(self) -> None:
        """Wait for a running call, stop the threads and give all memory back. Closing twice is harmless."""
        self._is_closing.set()  # who packs weights stops after a slice
        with self._lock if os.getpid() == self._owner else nullcontext():  # a second caller waits until it is done
            self._shut()


def _not_finite(name: str) -> ModelFormatError:
    return ModelFormatError(
        f"A weight of {name} is no finite number, or too large for the format that it is brought to: the weights are "
        "damaged. Get the file again."
    )


def _shut_engine(
    is_closing: threading.Event,
    lock: threading.RLock,
    lib: Any,
    engine: Any,
    structs: _Structs,
    memory: Memory,
    owner: int,
) -> None:
    is_closing.set()
    # In a forked child there are no threads to stop, and whoever held the lock is not there to release it.
    is_ours = os.getpid() == owner
    with lock if is_ours else nullcontext():  # at exit a daemon thread may be in a forward pass
        if is_ours:
            lib.mogemma_engine_close(engine)
        structs.release()
        memory.close()


def top_k(logits: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and values of the k greatest of `logits` [vocab_size], greatest first, equal ones by lower id.

    Raises:
        ModelFormatError: A logit is not finite: the weights are damaged.
    """
    kernel = load_kernel()
    if not 1 <= k <= len(logits):
        raise ConfigError(f"top_k must be 1 to {len(logits)}, not {k}.")
    ids, values = np.empty(k, np.int32), np.empty(k, np.float32)
    buffer = kernel.ffi.from_buffer
    status = kernel.lib.mogemma_top_k(
        buffer("float[]", logits), len(logits), k, buffer("int32_t[]", ids), buffer("float[]", values)
    )
    if kernel.status_name(status) == "NOT_FINITE":
        raise ModelFormatError("The model computed logits that are not finite: its weights are damaged.")
    return ids, values


def dequantize(matrix: Mapping[str, Any], row: int, *, level: str | None = None) -> NDArray[np.float32]:
    """A row of a stored matrix as float32 [n_columns]."""
    kernel = load_kernel(level)
    structs = _Structs(kernel.ffi)
    values = np.empty(matrix["n_columns"], np.float32)
    buffer = kernel.ffi.from_buffer("float[]", values, require_writable=True)
    status = kernel.lib.mogemma_dequantize(structs.new("matrix", matrix), row, buffer)
    structs.release()
    if status:
        raise KernelError(f"The kernels refuse the matrix: {kernel.status_name(status)}.")
    return values


def peak(kind: str, n: int, memory: Memory | None = None, offset: int = 0) -> int:
    """Do what takes a core a while, for the caller to time; returns how much that was.

    Args:
        kind: "INT8", "BFLOAT16" or "FLOAT32": n steps of dot products, returns multiply-accumulates, 0 where the CPU level
            has no instruction for them. "READ": n bytes, of which it returns the number.
        memory: To be read, from `offset` on.
    """
    kernel = load_kernel()
    place = kernel.ffi.NULL if memory is None else memory.pointer + offset
    done: int = kernel.lib.mogemma_peak(
        getattr(kernel.lib, f"MOGEMMA_PEAK_{kind}"), n, place, kernel.ffi.new("int32_t *")
    )
    if done < 0:
        raise KernelError(f"The kernels refuse to measure {kind}: {kernel.status_name(-done)}.")
    return done
