"""Text to read: always the same, and of exactly as many tokens as asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from .errors import OptionError

PASSAGE = """\
The lamp stood four hundred steps above the harbour, and every evening at dusk somebody had to climb them. For most of a
century that somebody was a keeper with a can of oil; later it was a man with a fuse box, and in the end a small machine
that needed no stairs at all. What the ships saw never changed: two short flashes, a pause of nine seconds, one long flash.
Pilots knew it the way others know a voice. Children in the village counted the pause in their beds and fell asleep before
the ninth second. When a storm tore the slates from the roof in the winter of 1911, the keeper turned the lens by hand for
eleven hours, because the clockwork had stopped and three boats were still out. He wrote a single line about that night in
his book: wind north-west, lamp kept. Engineers who read the book today admire something else. He noted how much oil each
hour had cost, how clean the glass was, and how far the light had carried, so that whoever came after him could tell a
better wick from a lucky evening. It is a good habit. Measure the same thing in the same way, write down what disturbed
you, and keep the numbers that disappoint beside those that please. """
"""Written for this bench; plain English with a few numbers, as models see it every day."""

_PATIENCE = 200


def text_of(n_tokens: int, count: Callable[[str], int], first_word: int = 0) -> str:
    """A text of exactly `n_tokens`.

    Args:
        n_tokens: As `count` counts, special tokens included.
        count: Tokens of a text.
        first_word: Where in the passage to begin. Texts that begin elsewhere share no prefix that a cache could keep.

    Raises:
        OptionError: No such text was found.
    """
    text = _long_enough(n_tokens, count, first_word)
    length = bisect_left(range(len(text)), n_tokens, key=lambda length: count(text[:length]))
    # One more character is mostly one token more or none; where it makes two, a later one evens it out.
    for end in range(max(1, length), min(length + _PATIENCE, len(text)) + 1):
        if count(text[:end]) == n_tokens:
            return text[:end]
    raise OptionError(
        f"This tokenizer makes no text of exactly {n_tokens} tokens (an empty one has {count('')}). "
        "Ask for another number with --prompt-tokens."
    )


def _long_enough(n_tokens: int, count: Callable[[str], int], first_word: int) -> str:
    """The passage from that word on, over and over, until it has more tokens than asked for."""
    words = PASSAGE.split()
    start = first_word % len(words)
    once = " ".join(words[start:] + words[:start]) + " "
    return once * (n_tokens // count(once) + 2)
