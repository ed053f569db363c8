"""The border to the Mojo kernels: the header is read here, and nowhere else is a kernel called.

    mogemma.h ── kernel.py: cffi reads it ──> structs.py: filled from plain mappings ── engine.py: forward() ──> numpy arrays
                                                                            a status ──> an exception

    engine.py     a model's forward pass
    packing.py    its matrices, in the order in which they are read
    handle.py     when it may be used, and when all of it ends
    functions.py  what needs no model

The library allocates nothing: all memory that it works in is mapped in memory.py, so that pages which are never touched
cost nothing and all of it goes back to the system in `close`.
"""

from .calls import BestLogits, Cancel, SequenceRun, Wanted
from .engine import Engine
from .functions import dequantize, peak, top_k
from .kernel import LEVEL_VARIABLE, STRUCTS, Kernel, kernel_folder, load_kernel, runnable_levels
from .memory import Memory
from .packing import FloatsAs

__all__ = [
    "LEVEL_VARIABLE",
    "STRUCTS",
    "BestLogits",
    "Cancel",
    "Engine",
    "FloatsAs",
    "Kernel",
    "Memory",
    "SequenceRun",
    "Wanted",
    "dequantize",
    "kernel_folder",
    "load_kernel",
    "peak",
    "runnable_levels",
    "top_k",
]
