"""FunctionGemma: Gemma 3 270M with tokens for tools, which a developer's turn declares.

<start_of_turn>developer
You are a model that can do function calling with the following functions<start_function_declaration>...
<start_of_turn>user
What time is it in Oslo?<end_of_turn>
<start_of_turn>model
<start_function_call>call:get_time{city:<escape>Oslo<escape>}<end_function_call>

It has no thoughts; results come as Gemma 4's do, between `<start_function_response>` and `<end_function_response>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from ..errors import PromptError
from .compact import ToolMarkers
from .conversation import MODEL, SYSTEM, Conversation, read_messages
from .segments import Segment, Writer
from .start_of_turn import END_OF_TURN, TURN
from .template import AnswerFormat
from .tool_turns import Turn, model_turns, write_calls

TOOLS = ToolMarkers(
    declaration=("<start_function_declaration>", "<end_function_declaration>"),
    call=("<start_function_call>", "<end_function_call>"),
    response=("<start_function_response>", "<end_function_response>"),
    quote="<escape>",
    always_describes=True,
)
ANSWER = AnswerFormat(call=TOOLS.call, quote=TOOLS.quote)
TASK = "You are a model that can do function calling with the following functions"
"""What the model was trained to call functions after."""

_DEVELOPER = "developer"


@dataclass(frozen=True, slots=True)
class FunctionGemmaTemplate:
    """The turn format of FunctionGemma."""

    name: str = "FunctionGemma"
    turn: str = TURN
    answer: AnswerFormat = ANSWER
    stops: tuple[str, ...] = (END_OF_TURN, TOOLS.response[0])

    def write(self, conversation: Conversation) -> list[Segment]:
        """The prompt. With tools, the sentence that the model was trained with opens the developer's turn."""
        if conversation.thinking:
            raise PromptError(f"{self.name} has no tokens for thoughts. Leave out thinking=True, or use Gemma 4.")
        messages = read_messages(conversation.messages)
        opening = list(takewhile(lambda message: message.role == SYSTEM, messages))
        texts = [message.text for message in opening]
        if conversation.tools and not any(text.startswith(TASK) for text in texts):
            texts.insert(0, TASK)
        writer = Writer()
        if texts:
            writer.mark(TURN)
            writer.write(f"{_DEVELOPER}\n" + "\n".join(texts))
            for tool in conversation.tools:
                TOOLS.declare(writer, tool)
            writer.mark(END_OF_TURN)
            writer.write("\n")
        turns = model_turns(messages[len(opening) :])
        for turn in turns:
            _write_turn(writer, turn, is_left_open=turn.is_open and turn is turns[-1])
        if conversation.opens_answer and not (turns and turns[-1].is_open):
            writer.mark(TURN)
            writer.write(f"{MODEL}\n")
        return writer.segments


def _write_turn(writer: Writer, turn: Turn, *, is_left_open: bool) -> None:
    writer.mark(TURN)
    writer.write(f"{_DEVELOPER if turn.role == SYSTEM else turn.role}\n")
    has_text = False
    for message in turn.messages:
        writer.write(f"\n\n{message.text}" if has_text and message.text else message.text)
        has_text = bool(message.text) and not message.calls
        write_calls(writer, message, TOOLS)
    if not is_left_open:
        writer.mark(END_OF_TURN)
        writer.write("\n")


FUNCTION_GEMMA = FunctionGemmaTemplate()
