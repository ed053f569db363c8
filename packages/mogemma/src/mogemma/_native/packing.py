"""A model's matrices as an engine reads them: as stored, or packed in the order in which they are read."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelClosedError, ModelFormatError, OutOfMemoryError
from .memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .handle import Handle
    from .kernel import Kernel
    from .matrix import Matrix

_PACK_SLICE = 8 << 20
"""Bytes of weights that are packed before their stored pages are given back."""

CALLS_BEFORE_PACKING = 64
"""Packing takes as long as it saves in about a hundred tokens: a short answer alone is faster without."""


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
    """What a matrix becomes: its format, layout and size then."""

    matrix: Matrix
    format: int
    layout: int
    n_bytes: int


class Matrices:
    """The matrices of an engine that tokens are multiplied by."""

    def __init__(self, kernel: Kernel, handle: Handle, matrices: Iterable[Matrix], *, certifies: bool) -> None:
        """Note what there is; it is read as stored until it is packed.

        Args:
        kernel: The library.
        handle: Whose matrices they are.
        matrices: In the order of use, the head last.
        certifies: Whether it pays to keep the head in planes, if its format allows it.
        """
        self._kernel = kernel
        self._handle = handle
        self.all = list(matrices)
        self._certifies = certifies
        self._later: tuple[Callable[[], None], bool] | None = None
        self._packer: threading.Thread | None = None
        self._n_calls = 0
        self.in_memory_bytes = 0
        """Bytes that are packed by now."""

    @property
    def layer_bytes(self) -> int:
        """Bytes of the matrices that every token, or every embedding, is multiplied by, as they are read now; of experts as
        many as a token goes to.
        """
        return round(sum(matrix.n_bytes * matrix.share for matrix in self.all[:-1]))

    @property
    def head_bytes(self) -> int:
        """Bytes of the matrix that gives the logits, as it is read now."""
        return self.all[-1].n_bytes

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

        A large head of Q8_0 goes into planes: `Engine.best` then reads little more than one of them
        (docs/certified-head.md).

        Args:
            on_slice: Called after every few megabytes, whose stored bytes are no longer read.
            floats_as: Formats that float weights are brought to, where their rows allow it.
            with_head: Pack the head too, which only logits need.

        Raises:
            ModelFormatError: A float weight is not finite, or too large for its format.
        """
        packings = list(self._packings(floats_as, with_head=with_head))
        if not packings:
            return
        n_bytes = sum(packing.n_bytes for packing in packings)
        packed = Memory(self._kernel, n_bytes, "the packed weights", huge_pages=True)
        self._handle.keep(packed)
        start = 0
        for packing in packings:
            self._pack(packing, packed.pointer + start, on_slice)
            start += packing.n_bytes

    def pack_later(self, on_slice: Callable[[], None], *, with_head: bool = True) -> None:
        """Pack in the background after 64 calls, a short text that packing would only delay.

        The next call waits until it is done: read as stored in between, weights would come back into memory that was just
        given back. For weights that keep their format, and so give the same bits before and after.
        """
        self._later = on_slice, with_head

    def count_call(self) -> None:
        """Note that a call is done, after some of which what `pack_later` has left is packed."""
        if self._later is not None:
            self._n_calls += 1
            if self._n_calls >= CALLS_BEFORE_PACKING:
                self._start_packing()

    def finish_packing(self) -> None:
        """Pack now what `pack_later` has left for later, and wait until it is done."""
        self._start_packing()
        if self._packer is not None:
            self._packer.join()

    def _start_packing(self) -> None:
        with suppress(ModelClosedError), self._handle.use():
            later, self._later = self._later, None
            if later is not None:
                self._packer = threading.Thread(target=self._pack_at_once, args=later, name="mogemma-pack", daemon=True)
                self._packer.start()

    def _pack_at_once(self, on_slice: Callable[[], None], with_head: bool) -> None:
        # Without the memory, or once the model is closed, weights stay as they are stored.
        with suppress(OutOfMemoryError, ModelClosedError), self._handle.use():
            self.pack(on_slice, with_head=with_head)

    def _packings(self, floats_as: FloatsAs | None, *, with_head: bool) -> Iterator[_Packing]:
        """What becomes of the matrices that can be packed."""
        for matrix in self.all:
            if matrix.part == "head" and not with_head:
                continue
            packing = self._in_other_format(matrix, floats_as) or self._in_its_own(matrix)
            if packing.n_bytes > 0:
                yield packing

    def _in_other_format(self, matrix: Matrix, floats_as: FloatsAs | None) -> _Packing | None:
        """None where it keeps its own."""
        if floats_as is None:
            return None
        lib = self._kernel.lib
        kinds: tuple[int, ...] = getattr(floats_as, matrix.part)
        for kind in kinds:
            if kind == matrix.native.format:
                return None
            n_bytes = lib.mogemma_quantized_bytes(matrix.native, kind, lib.MOGEMMA_PACKED)
            if n_bytes > 0:
                return _Packing(matrix, kind, lib.MOGEMMA_PACKED, n_bytes)
        return None

    def _in_its_own(self, matrix: Matrix) -> _Packing:
        lib, native = self._kernel.lib, matrix.native
        if matrix.part == "head" and self._certifies:
            n_bytes = lib.mogemma_packed_bytes(native, lib.MOGEMMA_PLANES)
            if n_bytes > 0:
                return _Packing(matrix, native.format, lib.MOGEMMA_PLANES, n_bytes)
        n_bytes = lib.mogemma_packed_bytes(native, lib.MOGEMMA_PACKED)
        return _Packing(matrix, native.format, lib.MOGEMMA_PACKED, n_bytes)

    def _pack(self, packing: _Packing, memory: Any, on_slice: Callable[[], None]) -> None:
        """Pack one matrix, some rows at a time, so that little of it is ever in memory twice."""
        matrix = packing.matrix
        n_rows = matrix.native.n_rows
        step = max(_PACK_SLICE * n_rows // packing.n_bytes // 16, 1) * 16
        for first in range(0, n_rows, step):
            with self._handle.use() as engine:
                if self._handle.is_closing:
                    raise ModelClosedError("This model was closed while its weights were packed. Load it again.")
                self._pack_rows(engine, packing, first, min(step, n_rows - first), memory)
                on_slice()
        with self._handle.use():
            matrix.native.data, matrix.native.format, matrix.native.layout = memory, packing.format, packing.layout
            matrix.n_bytes = packing.n_bytes
            self.in_memory_bytes += packing.n_bytes

    def _pack_rows(self, engine: Any, packing: _Packing, first: int, n: int, memory: Any) -> None:
        lib, native = self._kernel.lib, packing.matrix.native
        if packing.format == native.format:
            self._kernel.check(lib.mogemma_pack(engine, native, packing.layout, first, n, memory))
        else:
            status = lib.mogemma_quantize(engine, native, packing.format, packing.layout, first, n, memory)
            check_quantized(self._kernel, status, packing.matrix.name)


def check_quantized(kernel: Kernel, status: int, name: str) -> None:
    """Turn the status of bringing a matrix to another format into an exception.

    Raises:
        ModelFormatError: A weight is not finite, or too large for the format.
        KernelError: The call was wrong.
    """
    if kernel.status_name(status) == "NOT_FINITE":
        raise ModelFormatError(
            f"A weight of {name} is no finite number, or too large for the format that it is brought to: the weights are "
            "damaged. Get the file again."
        )
    kernel.check(status)
