"""A kernel of two functions, in the shape of the real ones, so that building it takes seconds."""

from __future__ import annotations

from pathlib import Path

HEADER = """
#include <stdint.h>
/* Not mogemma_old(void), which is gone. */
int32_t mogemma_abi_version(void);
float mogemma_twice(float x); // half of mogemma_fourfold(x)
"""
ABI = """
from ops.twice import twice


@export("mogemma_abi_version")
def mogemma_abi_version() abi("C") -> Int32:
    return 7


@export("mogemma_twice")
def mogemma_twice(x: Float32) abi("C") -> Float32:
    return twice(x)


@export("mogemma_inner")
def mogemma_inner() abi("C") -> Int32:
    return 1
"""
TWICE = "def twice(x: Float32) -> Float32:\n    return 2 * x\n"


def write_kernel(folder: Path) -> Path:
    """The sources of a small kernel, in the shape of the real ones."""
    for name, text in {
        "include/mogemma.h": HEADER,
        "src/abi.mojo": ABI,
        "src/ops/__init__.mojo": "",
        "src/ops/twice.mojo": TWICE,
    }.items():
        file = folder / "mojo" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder / "mojo"
