"""Token ids to what they are a part of: the text of an answer, a thought, or the call of a tool.

                    ┌── <|channel> ──> thought ── <channel|> ──┐
    text <──────────┤                                          ├──> text
                    └─ <|tool_call> ──> call ── <tool_call|> ──┘

One state machine over ids serves every family: a marker is one token, so no chunk of text can hide one, and text that
looks like a marker is text. An end of the answer ends a thought as it is; a call it leaves broken is reported as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, SupportsIndex

from .completion import ToolCall
from .templates.call_reader import CallError, read_call
from .templates.template import PLAIN, AnswerFormat
from .text_stream import TextStream

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .tokenizer import Tokenizer

_State = Literal["text", "thought", "call"]


class Piece(NamedTuple):
    """What has come with a token, mostly nothing or some text."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def then(self, other: Piece) -> Piece:
        """This piece and one that comes after it."""
        return Piece(self.text + other.text, self.reasoning + other.reasoning, self.tool_calls + other.tool_calls)


class AnswerStream:
    """Divides the tokens of an answer as they come.

    Attributes:
        stopped_by: The stop string that has come, or None. From then on there is nothing more.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        answer: AnswerFormat = PLAIN,
        *,
        prompt_ids: Sequence[int] = (),
        tools: Collection[str] | None = None,
    ) -> None:
        """Begin an answer.

        Args:
            stop: As in TextStream. They are looked for in the text alone; one does not reach over a thought or a call.
            prompt_ids: What the answer continues: it begins in a thought, if one is open there.
            tools: The names that a call may have; None: any.

        Raises:
            ConfigError: A stop string is empty or no str.
        """
        self.stopped_by: str | None = None
        self._tokenizer = tokenizer
        self._stop = stop
        self._tools = tools
        self._quote = answer.quote
        self._thought_name = f"{answer.thought_name}\n"
        self._doors = _doors(tokenizer, answer)
        self._n_calls = 0
        self._state: _State = "text"
        self._stream = TextStream(tokenizer, stop)
        self._call: list[str] = []
        self._held = ""  # of a thought: may be its name, or the newlines at its end
        self._is_named = False
        self._has_thought = self._needs_gap = False
        if self._doors and _is_in_thought(prompt_ids, self._doors):
            self._enter("thought")

    def push(self, token_id: SupportsIndex) -> Piece:
        """What can be shown now that this token has come.

        Raises:
            TokenizerError: It is no id of the vocabulary.
        """
        if self.stopped_by is not None:
            return Piece()
        door = self._doors.get(int(token_id)) if self._doors else None
        if door is None:
            return self._piece(self._stream.push(token_id))
        state, is_opening = door
        if is_opening and not (state == self._state == "thought"):
            return self._change(state)
        if not is_opening and state == self._state:
            return self._change("text", is_closed=True)
        return Piece()  # closes what is not open, or opens what is

    def finish(self) -> Piece:
        """The rest, once there are no more tokens."""
        return self._change("text")

    def _change(self, state: _State, *, is_closed: bool = False) -> Piece:
        """End what is going on and begin something else."""
        if self.stopped_by is not None:
            return Piece()
        piece = self._ended(is_closed=is_closed)
        self._enter(state)
        return piece

    def _enter(self, state: _State) -> None:
        self._state = state
        self._stream = TextStream(self._tokenizer, self._stop if state == "text" else (), skip_special=state != "call")
        self._call = []
        self._held, self._is_named, self._needs_gap = "", False, self._has_thought

    def _ended(self, *, is_closed: bool) -> Piece:
        last = self._piece(self._stream.finish())
        if self._state == "call":
            return Piece(tool_calls=(self._read_call("".join(self._call), is_closed=is_closed),))
        if self._state == "thought" and not self._is_named and self._held != self._thought_name.strip():
            return Piece(reasoning=last.reasoning + self._thought(self._held))
        return last

    def _piece(self, text: str) -> Piece:
        if self._state == "call":
            self._call.append(text)
            return Piece()
        if self._state == "thought":
            return Piece(reasoning=self._without_name(text))
        self.stopped_by = self._stream.stopped_by
        return Piece(text=text)

    def _without_name(self, text: str) -> str:
        """What of a thought can be shown: not its name, nor newlines that may be its end."""
        held = self._held + text
        if not self._is_named:
            if len(held) < len(self._thought_name) and self._thought_name.startswith(held):
                self._held = held
                return ""
            held = held.removeprefix(self._thought_name)
            self._is_named = True
        shown = held.rstrip("\n")
        self._held = held[len(shown) :]
        return self._thought(shown)

    def _thought(self, text: str) -> str:
        """A piece of the thoughts; a second thought stands apart from the first."""
        if not text:
            return ""
        gap = "\n\n" if self._needs_gap else ""
        self._has_thought, self._needs_gap = True, False
        return gap + text

    def _read_call(self, text: str, *, is_closed: bool) -> ToolCall:
        call_id = f"call_{self._n_calls}"
        self._n_calls += 1
        try:
            name, arguments = read_call(text, self._quote)
        except CallError as error:
            return ToolCall(call_id, "", {}, text, str(error) if is_closed else f"It was not ended. {error}")
        if not is_closed:
            return ToolCall(call_id, name, arguments, text, "It was not ended.")
        if self._tools is not None and name not in self._tools:
            return ToolCall(call_id, name, arguments, text, f"There is no tool {name!r} among those that were offered.")
        return ToolCall(call_id, name, arguments, text)


_Doors = dict[int, tuple[_State, bool]]


def _doors(tokenizer: Tokenizer, answer: AnswerFormat) -> _Doors:
    """Token ids that open and close thoughts and calls: what they lead into or out of, and whether into."""
    doors: _Doors = {}
    pairs: list[tuple[_State, tuple[str, str] | None]] = [("thought", answer.thought), ("call", answer.call)]
    for state, pair in pairs:
        for marker, is_opening in zip(pair or (), (True, False), strict=False):
            token_id = tokenizer.id_of(marker)
            if token_id is not None:
                doors[token_id] = (state, is_opening)
    return doors


def _is_in_thought(prompt_ids: Sequence[int], doors: _Doors) -> bool:
    """Whether the prompt ends in a thought that is still open."""
    for token_id in reversed(prompt_ids):
        state, is_opening = doors.get(token_id, ("text", False))
        if state == "thought":
            return is_opening
    return False
