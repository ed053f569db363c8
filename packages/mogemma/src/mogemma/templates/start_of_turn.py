"""Gemma 1, 2, 3 and 3n, and what is made of them: turns of two sides, the user's and the model's.

    <start_of_turn>user
    Be brief.

    Hi<end_of_turn>
    <start_of_turn>model

They have no system turn and no tokens for tools or thoughts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import PromptError
from .conversation import MODEL, SYSTEM, USER, Conversation, Message, read_messages
from .segments import Segment, Writer
from .template import PLAIN, AnswerFormat

TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"

_BLANK_LINE = "\n\n"


@dataclass(frozen=True, slots=True)
class StartOfTurnTemplate:
    """The turn format of these families.

    Attributes:
        takes_system: Whether the published template knows a system role. Text of that role opens the user's turn in any
            case; without this, `strict` refuses it.
    """

    name: str
    takes_system: bool
    turn: str = TURN
    answer: AnswerFormat = PLAIN
    stops: tuple[str, ...] = (END_OF_TURN,)

    def write(self, conversation: Conversation) -> list[Segment]:
        """The prompt, as the published template writes it.

        The text of each part is stripped of surrounding spaces, that of the system is not; both as the templates do. With
        `strict`, what they refuse is refused: roles that do not take turns, beginning with the user's. Otherwise
        neighbouring messages of one side become one turn, with a blank line between them, and a system message belongs to
        the user's side wherever it stands.
        """
        messages = read_messages(conversation.messages)
        self._check(conversation, messages)
        if conversation.strict:
            self._check_alternation(messages)
        writer = Writer()
        for turn in _merge_turns(messages):
            writer.mark(TURN)
            writer.write(f"{turn.role}\n{_BLANK_LINE.join(turn.texts)}")
            writer.mark(END_OF_TURN)
            writer.write("\n")
        if conversation.opens_answer:
            writer.mark(TURN)
            writer.write(f"{MODEL}\n")
        return writer.segments

    def _check(self, conversation: Conversation, messages: Iterable[Message]) -> None:
        if conversation.tools or any(message.calls for message in messages):
            raise PromptError(
                f"{self.name} has no tokens for tools. Describe them in the system message and read the calls in the text, "
                "or use FunctionGemma or Gemma 4."
            )
        if conversation.thinking:
            raise PromptError(f"{self.name} has no tokens for thoughts. Leave out thinking=True, or use Gemma 4.")

    def _check_alternation(self, messages: list[Message]) -> None:
        turns = messages[1:] if messages[0].role == SYSTEM and self.takes_system else messages
        for position, message in enumerate(turns):
            expected = MODEL if position % 2 else USER
            if message.role != expected:
                raise PromptError(
                    f"Message {message.index} is of the role {message.role!r} where this model's template expects "
                    f"{expected!r}. Let user and assistant take turns, beginning with the user, or leave out strict=True."
                )
        if not turns:
            raise PromptError(
                "There is a system message but no user's, and the template writes none alone. Add what the user says."
            )


class _Turn(NamedTuple):
    role: str
    texts: list[str]


def _merge_turns(messages: Iterable[Message]) -> list[_Turn]:
    turns: list[_Turn] = []
    for message in messages:
        side = USER if message.role == SYSTEM else message.role
        text = "".join(message.parts) if message.role == SYSTEM else message.text
        if turns and turns[-1].role == side:
            turns[-1].texts.append(text)
        else:
            turns.append(_Turn(side, [text]))
    return turns


GEMMA_1 = StartOfTurnTemplate("Gemma 1", takes_system=False)
GEMMA_2 = StartOfTurnTemplate("Gemma 2", takes_system=False)
GEMMA_3 = StartOfTurnTemplate("Gemma 3", takes_system=True)
GEMMA_3N = StartOfTurnTemplate("Gemma 3n", takes_system=True)
