"""What every chat template is, and how the answers to its prompts are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .compact import Pair
    from .conversation import Conversation
    from .segments import Segment


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How a family marks what it thinks and which tools it calls, besides the text that it answers.

    Attributes:
        thought: The control tokens around what it thinks.
        thought_name: The line that a thought begins with, which is no part of it.
        call: The control tokens around a call.
        quote: The one around texts in a call.
    """

    thought: Pair | None = None
    thought_name: str = "thought"
    call: Pair | None = None
    quote: str = '"'


PLAIN = AnswerFormat()
"""Everything is text."""


class ChatTemplate(Protocol):
    """Writes a conversation as a family was trained to read it."""

    @property
    def name(self) -> str: ...

    @property
    def answer(self) -> AnswerFormat: ...

    def write(self, conversation: Conversation) -> list[Segment]:
        """The prompt.

        Raises:
            PromptError: A message is malformed, or the template cannot hold the conversation.
            UnsupportedModelError: A message has an image, audio or video part.
        """
        ...


class BuiltIn(ChatTemplate, Protocol):
    """One that belongs to a family."""

    @property
    def turn(self) -> str:
        """The control token that begins a turn."""
        ...

    @property
    def stops(self) -> tuple[str, ...]:
        """Control tokens that end an answer."""
        ...
