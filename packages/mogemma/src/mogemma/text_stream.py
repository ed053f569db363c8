"""Token ids to text as it is generated: never half a character, never past a stop string."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, SupportsIndex

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tokenizer import Tokenizer


class TextStream:
    """Pieces of text that joined are `tokenizer.decode(ids)`, cut before the first stop string.

    Attributes:
        stopped_by: The stop string that has come, or None. From then on there is no more text.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, skip_special: bool = True) -> None:
        """Begin a new text.

        Args:
            stop: Texts that end the stream and are not part of it. They may begin and end inside tokens. The one that is
                complete first counts; of several that are complete with the same character, the longest.
            skip_special: Leave out control tokens, as `decode` does.

        Raises:
            ConfigError: A stop string is empty or no str.
        """
        texts: Sequence[object] = stop
        if isinstance(stop, str) or not all(isinstance(text, str) and text for text in texts):
            raise ConfigError(f"stop takes a list of texts, none of them empty, not {stop!r:.80}.")
        self.stopped_by: str | None = None
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._characters = getincrementaldecoder("utf-8")("replace")
        self._stops = [_StopMatcher(text) for text in sorted(stop, key=len, reverse=True)]
        self._held = ""  # may be the beginning of a stop string

    def push(self, token_id: SupportsIndex) -> str:
        """The text that can be shown now that this token has come; often empty.

        Raises:
            TokenizerError: It is no id of the vocabulary.
        """
        return self._released(self._characters.decode(self._tokenizer.token_bytes(token_id, self._skip_special)))

    def finish(self) -> str:
        """The rest of the text, once there are no more tokens."""
        text = self._released(self._characters.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _released(self, text: str) -> str:
        if self.stopped_by is not None:
            return ""
        if not self._stops:
            return text
        held = self._held + text
        for at, character in enumerate(text, start=len(self._held) + 1):
            for stop in self._stops:
                if stop.feed(character):
                    self.stopped_by, self._held = stop.text, ""
                    return held[: at - len(stop.text)]
        n_released = len(held) - max(stop.n_matched for stop in self._stops)
        self._held = held[n_released:]
        return held[:n_released]


class _StopMatcher:
    """How much of a stop string the text so far ends with (Knuth, Morris and Pratt 1977): linear in the text's length."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.n_matched = 0
        self._shorter = [0] * (len(text) + 1)  # by number of characters matched: the next shorter match inside that
        matched = 0
        for length in range(2, len(text) + 1):
            matched = self._advance(matched, text[length - 1])
            self._shorter[length] = matched

    def feed(self, character: str) -> bool:
        """Take one character; whether the stop string is now complete."""
        self.n_matched = self._advance(self.n_matched, character)
        return self.n_matched == len(self.text)

    def _advance(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._shorter[matched]
        return matched + (self.text[matched] == character)
