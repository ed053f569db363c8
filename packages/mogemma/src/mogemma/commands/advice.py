"""What a person should know of a loaded model before waiting for it: why it is slower than it could be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cpu import available_cores
from .streams import notice

if TYPE_CHECKING:
    from ..info import ModelInfo


def advise(info: ModelInfo) -> None:
    """Say on standard error what slows this model down or holds it back; most often nothing does."""
    cores = available_cores()
    if info.threads > cores:
        notice(
            f"{info.threads} threads share {cores} core{'s' if cores > 1 else ''} and wait for each other: "
            f"--threads {cores} is faster."
        )
    if info.is_short_of_memory:
        notice(
            "The weights stay in the file, for memory is too short to keep them ready for use: everything takes longer. "
            "Close other programs, or take a smaller model."
        )
    if info.unused_parts:
        notice(f"It is the text of this model that runs; {', '.join(info.unused_parts)} is left alone.")
    if info.is_context_cut:
        notice(
            f"The context is {info.context:,} tokens, of {info.max_context:,} that this model was made for: the KV cache of "
            "more takes over half of the free memory. --context N asks for another size."
        )
