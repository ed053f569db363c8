"""An engine of the library from its opening to its end, whoever uses it and whoever forgets it."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ModelClosedError, ModelFormatError, OutOfMemoryError
from .memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .kernel import Kernel
    from .structs import Structs

_OPTIONS = ("n_threads", "max_tokens", "max_outputs", "n_context", "cache_format", "arithmetic")


class Handle:
    """An open engine of the library: its worker threads, its memory, and whose turn it is.

    Calls from several threads wait for each other. Not usable in a forked child, where the worker threads are missing.
    """

    def __init__(self, kernel: Kernel, structs: Structs, model: Any, options: Any) -> None:
        """Check and open.

        Args:
            kernel: The library.
            structs: What `model` and `options` point to; released when the engine ends.
            model: `mogemma_model *`.
            options: `mogemma_options *`.

        Raises:
            ModelFormatError: The numbers of the model do not fit each other.
            ConfigError: An option is out of range.
            OutOfMemoryError: There is no memory or no thread to be had.
        """
        layer = kernel.ffi.new("int32_t *")
        self.n_bytes: int = kernel.lib.mogemma_engine_bytes(model, options, layer)
        if self.n_bytes < 0:
            raise _refusal(kernel.status_name(-self.n_bytes), layer[0], options)
        scratch = Memory(kernel, self.n_bytes, "the scratch memory of a call")
        self._engine = kernel.ffi.cast("mogemma_engine *", scratch.pointer)
        if kernel.lib.mogemma_engine_open(model, options, self._engine):
            scratch.close()
            raise OutOfMemoryError(f"The system gives no {options.n_threads} threads. Load the model with fewer.")
        self._memory = [scratch]
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._is_closing = threading.Event()
        # Runs once: in close(), when the handle is forgotten, or at exit. The threads must end before their memory does.
        self._end = weakref.finalize(
            self,
            _end,
            self._is_closing,
            self._lock,
            kernel.lib,
            self._engine,
            structs,
            self._memory,
            self._owner,
        )

    @contextmanager
    def use(self) -> Iterator[Any]:
        """Have the `mogemma_engine *` to oneself, and open. A thread that has it may ask again.

        Raises:
            ModelClosedError: It was closed, or belongs to the parent of this process.
        """
        self.check_process()
        with self._lock:
            if not self._end.alive:
                raise ModelClosedError("This model was closed. Load it again.")
            yield self._engine

    @property
    def is_closing(self) -> bool:
        """Whether somebody waits for its end: long work should stop."""
        return self._is_closing.is_set()

    def keep(self, memory: Memory) -> None:
        """Close a memory together with this engine."""
        with self.use():
            self._memory.append(memory)

    def check_process(self) -> None:
        """Raise ModelClosedError in a forked child, where this engine cannot run."""
        if os.getpid() != self._owner:
            raise ModelClosedError(
                "This model was loaded before a fork, and its threads stayed with the parent. Load it in the child."
            )

    def close(self) -> None:
        """Wait for a running call, stop the threads and give all memory back. Closing twice is harmless."""
        self._is_closing.set()  # who packs weights stops after a slice
        with self._lock if os.getpid() == self._owner else nullcontext():  # a second caller waits until it is done
            self._end()


def _end(
    is_closing: threading.Event,
    lock: threading.RLock,
    lib: Any,
    engine: Any,
    structs: Structs,
    memory: list[Memory],
    owner: int,
) -> None:
    is_closing.set()
    # In a forked child there are no threads to stop, and whoever held the lock is not there to release it.
    is_ours = os.getpid() == owner
    with lock if is_ours else nullcontext():  # at exit a daemon thread may be in a forward pass
        if is_ours:
            lib.mogemma_engine_close(engine)
        structs.release()
        for one in memory:
            one.close()


def _refusal(status: str, layer: int, options: Any) -> ConfigError | ModelFormatError:
    if status == "BAD_ARGUMENT":
        described = ", ".join(f"{name}={getattr(options, name)}" for name in _OPTIONS)
        return ConfigError(f"An option of the engine is out of range: {described}.")
    where = "its own fields" if layer < 0 else f"layer {layer}"
    return ModelFormatError(
        f"The kernels refuse the model: {status} in {where}. A weight is missing, or of a shape or a format that does "
        "not fit the others."
    )
