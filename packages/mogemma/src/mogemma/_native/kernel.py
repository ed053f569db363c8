"""The kernel library for this processor: found, loaded, held to the header."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cffi

from ..cpu import instruction_flags
from ..errors import CancelledError, KernelError, ModelFormatError

LEVEL_VARIABLE = "MOGEMMA_CPU_LEVEL"

STRUCTS = ("matrix", "rope", "expert", "layer", "model", "options", "sequence", "candidates", "batch")
"""In the order in which mogemma_struct_bytes counts them."""

_STATUSES = (
    "BAD_ARGUMENT",
    "BAD_MODEL",
    "BAD_FORMAT",
    "BAD_TOKEN",
    "CONTEXT_FULL",
    "CANCELLED",
    "NO_THREADS",
    "NOT_FINITE",
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loaded kernel library."""

    ffi: cffi.FFI
    lib: Any
    level: str
    path: Path

    def status_name(self, status: int) -> str:
        """The header's name of a status, without its prefix."""
        return {getattr(self.lib, f"MOGEMMA_{name}"): name for name in _STATUSES}.get(status, str(status))

    def check(self, status: int) -> None:
        """Turn the status of a call into an exception; 0 is none.

        Raises:
            CancelledError: The call was cancelled.
            ModelFormatError: What it computed is not finite.
            KernelError: It was called wrong.
        """
        if not status:
            return
        name = self.status_name(status)
        if name == "CANCELLED":
            raise CancelledError("The call was cancelled; the model can be used again.")
        if name == "NOT_FINITE":
            raise ModelFormatError(
                "The model computed numbers that are not finite: its weights are damaged. Get the file again."
            )
        raise KernelError(f"The kernels refuse the call: {name}. Please report this as a bug in mogemma.")


def kernel_folder() -> Path:
    """Where the libraries and the header lie in this installation."""
    return Path(__file__).parents[1] / "_kernel"


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
