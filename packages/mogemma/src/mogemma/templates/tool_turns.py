"""What FunctionGemma and Gemma 4 have in common: turns of the model that go on after the results of tools.

model turn ── text ── call, call ── result, result ── text ── end of turn
                                 ^ here the model stops, and waits for the results

So the prompt that brings results ends inside the model's turn, and opens no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PromptError
from .conversation import MODEL, Message

if TYPE_CHECKING:
    from .compact import ToolMarkers
    from .segments import Writer


class Turn(NamedTuple):
    """Neighbouring messages of one role."""

    role: str
    messages: list[Message]

    @property
    def is_open(self) -> bool:
        """Whether the model is to go on in it, since results of tools came last."""
        last = self.messages[-1]
        return self.role == MODEL and bool(last.results)


def model_turns(messages: Sequence[Message]) -> list[Turn]:
    """Messages as turns: neighbouring ones of the model are one, every other is one of its own.

    Raises:
        PromptError: A call has no result, but the conversation goes on.
    """
    turns: list[Turn] = []
    for message in messages:
        if turns and turns[-1].role == message.role == MODEL:
            turns[-1].messages.append(message)
        else:
            turns.append(Turn(message.role, [message]))
    for message in messages:
        if len(message.results) < len(message.calls):
            raise PromptError(
                f"Message {message.index} calls {len(message.calls)} tools, and {len(message.results)} results follow. "
                'Add a message {"role": "tool", "tool_call_id": ..., "content": ...} for each.'
            )
    return turns


def write_calls(writer: Writer, message: Message, tools: ToolMarkers) -> None:
    """The calls of a message and their results."""
    for call in message.calls:
        tools.write_call(writer, call)
    for result in message.results:
        tools.write_result(writer, result)
