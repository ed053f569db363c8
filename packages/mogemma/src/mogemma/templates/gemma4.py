"""Gemma 4: a system turn, thoughts and tools.

    <|turn>system
    <|think|>
    Be brief.<|tool>declaration:...<tool|><turn|>
    <|turn>user
    What time is it in Oslo?<turn|>
    <|turn>model
    <|channel>thought
    I should look it up.
    <channel|><|tool_call>call:get_time{...}<tool_call|><|tool_response>response:get_time{...}<tool_response|>It is noon.<turn|>

The published templates differ between sizes and revisions; `like` takes from the one in a file what differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from .compact import ToolMarkers
from .conversation import MODEL, SYSTEM, USER, Conversation, Message, read_messages
from .segments import Segment, Writer
from .template import AnswerFormat
from .tool_turns import Turn, model_turns, write_calls

TURN, END_OF_TURN = "<|turn>", "<turn|>"
THINK = "<|think|>"
THOUGHT = ("<|channel>", "<channel|>")
TOOLS = ToolMarkers(
    declaration=("<|tool>", "<tool|>"),
    call=("<|tool_call>", "<tool_call|>"),
    response=("<|tool_response>", "<tool_response|>"),
    quote='<|"|>',
)
ANSWER = AnswerFormat(thought=THOUGHT, call=TOOLS.call, quote=TOOLS.quote)

_OLD_THOUGHT = re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)|<channel\|>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gemma4Template:
    """The turn format of Gemma 4.

    Attributes:
        think_line: Whether the token that asks for thoughts stands on a line of its own.
        closes_thought: Whether an answer without thoughts begins with an empty one, as with the larger models.
    """

    name: str = "Gemma 4"
    turn: str = TURN
    think_line: bool = True
    closes_thought: bool = False
    answer: AnswerFormat = ANSWER
    stops: tuple[str, ...] = (END_OF_TURN, TOOLS.response[0])

    def like(self, source: str) -> Gemma4Template:
        """This template, in the variant of one that came with a model."""
        source = source.replace("\\n", "\n")
        return replace(
            self,
            think_line=THINK not in source or f"{THINK}\n" in source,
            closes_thought=f"{THOUGHT[0]}thought\n{THOUGHT[1]}" in source,
        )

    def write(self, conversation: Conversation) -> list[Segment]:
        """The prompt, as the published template writes it, but for two things that it gets wrong.

        Text beside calls stands before them, where the model wrote it, and neighbouring messages of the model are one turn.
        The model reads its thoughts again only while it works with tools on what the user said last.
        """
        messages = read_messages(conversation.messages)
        opening = list(takewhile(lambda message: message.role == SYSTEM, messages))
        last_user = max((message.index for message in messages if message.role == USER), default=-1)
        writer = Writer()
        if opening or conversation.tools or conversation.thinking:
            self._write_system(writer, conversation, opening)
        turns = model_turns(messages[len(opening) :])
        for turn in turns:
            self._write_turn(writer, turn, last_user, is_left_open=turn.is_open and turn is turns[-1])
        if conversation.opens_answer:
            self._open_answer(writer, conversation, turns)
        return writer.segments

    def _write_system(self, writer: Writer, conversation: Conversation, opening: Iterable[Message]) -> None:
        writer.mark(TURN)
        writer.write(f"{SYSTEM}\n")
        if conversation.thinking:
            writer.mark(THINK)
            writer.write("\n" if self.think_line else "")
        writer.write("\n\n".join(message.text for message in opening))
        for tool in conversation.tools:
            TOOLS.declare(writer, tool)
        writer.mark(END_OF_TURN)
        writer.write("\n")

    def _write_turn(self, writer: Writer, turn: Turn, last_user: int, *, is_left_open: bool) -> None:
        writer.mark(TURN)
        writer.write(f"{turn.role}\n")
        has_text = False
        for message in turn.messages:
            if message.reasoning and message.calls and message.index > last_user:
                writer.mark(THOUGHT[0])
                writer.write(f"thought\n{message.reasoning}\n")
                writer.mark(THOUGHT[1])
            text = _without_thoughts(message) if turn.role == MODEL else message.text
            writer.write(f"\n\n{text}" if has_text and text else text)
            has_text = bool(text) and not message.calls
            write_calls(writer, message, TOOLS)
        if not is_left_open:
            writer.mark(END_OF_TURN)
            writer.write("\n")

    def _open_answer(self, writer: Writer, conversation: Conversation, turns: list[Turn]) -> None:
        if not turns or not turns[-1].is_open:
            writer.mark(TURN)
            writer.write(f"{MODEL}\n")
        if self.closes_thought and not conversation.thinking:
            writer.mark(THOUGHT[0])
            writer.write("thought\n")
            writer.mark(THOUGHT[1])


def _without_thoughts(message: Message) -> str:
    """What the model said, without thoughts that somebody kept in its text."""
    return "".join(_OLD_THOUGHT.sub("", part).strip() for part in message.parts)


GEMMA_4 = Gemma4Template()
