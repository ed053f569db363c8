"""Memory for the kernels, mapped from the system."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from ..errors import KernelError, OutOfMemoryError

if TYPE_CHECKING:
    from .kernel import Kernel


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

    def fill(self, byte: int) -> None:
        """Write to every page, which makes it this process's own."""
        piece = bytes([byte]) * min(self.n_bytes, 1 << 20)
        for start in range(0, self.n_bytes, len(piece)):
            self._ffi.memmove(self.pointer + start, piece, min(len(piece), self.n_bytes - start))

    def write(self, at: int, source: Memory, start: int, n_bytes: int) -> None:
        """Copy a part of other memory to here, from byte `start` of that to byte `at`."""
        if not (0 <= at <= self.n_bytes - n_bytes and 0 <= start <= source.n_bytes - n_bytes):
            raise KernelError(f"{n_bytes} bytes from {start} on do not fit at {at} of {self.n_bytes}.")
        self._ffi.memmove(self.pointer + at, source.pointer + start, n_bytes)

    def close(self) -> None:
        """Give the memory back; the pointer is dead from then on."""
        if not self._map.closed:
            self._ffi.release(self.pointer)
            self._map.close()
