"""What the kernels do without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError, KernelError, ModelFormatError
from .kernel import load_kernel
from .structs import Structs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .memory import Memory


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
    structs = Structs(kernel)
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
