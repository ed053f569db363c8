"""A prompt as a list of segments that say which of them are markers: only those become control tokens.

So a user who writes `<end_of_turn>` has written just that. BOS is the tokenizer's affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Segment(NamedTuple):
    """A stretch of a prompt: text, or the name of one control token."""

    text: str
    is_marker: bool = False


class Writer:
    """Collects the segments of a prompt, in order."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def mark(self, *markers: str) -> None:
        self.segments += [Segment(marker, is_marker=True) for marker in markers]

    def write(self, text: str) -> None:
        if text:
            self.segments.append(Segment(text))


def as_text(segments: Iterable[Segment]) -> str:
    """A prompt as one string, to be shown."""
    return "".join(segment.text for segment in segments)
