"""Run the kernels on memory that ends at a page nobody may touch: reading or writing beyond it ends the process.

    python guarded.py LEVEL

Prints `ok` at the end. In a process of its own, since a fault cannot be caught.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
from blocks import FLOATS, random_matrix
from models import make_engine, make_model, packed

from mogemma._native import Kernel, SequenceRun, dequantize, load_kernel
from mogemma._native import engine as engine_module
from mogemma._native import handle as handle_module
from mogemma.checkpoint import TensorType

PAGE = mmap.PAGESIZE
NO_ACCESS = 0


class GuardedMemory:
    """In the place of `Memory`: ends with its last byte."""

    def __init__(self, kernel: Kernel, n_bytes: int, purpose: str) -> None:
        n_pages = -(-n_bytes // PAGE)
        self._map = mmap.mmap(-1, (n_pages + 1) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + n_pages * PAGE), ctypes.c_size_t(PAGE), NO_ACCESS):
            raise OSError("The system does not protect the page.")
        self.n_bytes = n_bytes
        self.array = np.frombuffer(self._map, np.uint8, n_bytes, n_pages * PAGE - n_bytes)
        self.pointer = kernel.ffi.cast("void *", start + n_pages * PAGE - n_bytes)

    def close(self) -> None:
        """It goes with the process."""


def guarded(kernel: Kernel, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy whose last byte is the last that may be touched."""
    memory = GuardedMemory(kernel, array.nbytes, "a test").array
    copy: np.ndarray[Any, Any] = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def multiply_in_every_format(kernel: Kernel) -> None:
    engines = [
        make_engine(make_model(mlp_dim=768), level=kernel.level, arithmetic=f"MOGEMMA_{x}") for x in ("INT8", "FLOAT32")
    ]
    for kind in TensorType:
        n_columns = 39 if kind in FLOATS else kind.block_weights * 2
        for n_rows in (1, 17):
            matrix = random_matrix(kind, n_rows, n_columns)
            matrix["data"] = guarded(kernel, matrix["data"])
            dequantize(matrix, n_rows - 1, level=kernel.level)
            # A row is looked up without its neighbours: a table may be larger than memory.
            dequantize({**matrix, "n_rows": n_rows + 20}, n_rows - 1, level=kernel.level)
            for engine in engines:
                ones = guarded(kernel, np.ones((3, n_columns), np.float32))
                engine.matmul(matrix, ones)
                if kind not in FLOATS:
                    ordered = packed(engine, matrix, allocate=lambda n: GuardedMemory(kernel, n, "packed").array)
                    engine.matmul(ordered, ones)
    for engine in engines:
        engine.close()


EXTRAS: dict[str, Any] = {
    "n_layers": 3,
    "kv_backs": (0, 0, 1),
    "has_v_norm": True,
    "gate_cutoff": 0.5,
    "laurel_rank": 5,
    "experts": (5, 2, 13),
    "ple_dim": 7,
    "ple_rows": 20,
    "n_streams": 4,
}
"""What only some models have, in odd sizes."""


def fill_a_context(kernel: Kernel, **extras: Any) -> None:
    model = make_model(n_before=9, vocab_size=33, **extras)
    for cache_format in ("MOGEMMA_F32", "MOGEMMA_F16", "MOGEMMA_BF16"):
        for arithmetic in ("MOGEMMA_INT8", "MOGEMMA_FLOAT32"):
            engine = make_engine(
                model,
                level=kernel.level,
                arithmetic=arithmetic,
                cache_format=cache_format,
                max_tokens=7,
                n_context=61,
                max_outputs=7,
            )
            cache = engine.new_cache()
            for position in range(0, 61, 7):
                ids = guarded(kernel, np.arange(position, min(position + 7, 61), dtype=np.int32) % 33)
                logits = guarded(kernel, np.empty((len(ids), 33), np.float32))
                hidden = guarded(kernel, np.empty((len(ids), 24), np.float32))
                engine.forward([SequenceRun(ids, cache, position, len(ids))], logits=logits, hidden=hidden)
            engine.close()


def main(level: str) -> None:
    kernel = load_kernel(level)
    for module in (engine_module, handle_module):
        module.__dict__["Memory"] = GuardedMemory
    multiply_in_every_format(kernel)
    fill_a_context(kernel)
    fill_a_context(kernel, **EXTRAS)
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
