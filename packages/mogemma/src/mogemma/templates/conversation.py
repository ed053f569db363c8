"""What a caller says, checked: messages with their parts, calls of tools and the results of these.

    {"role": "system", "content": "Be brief."}                         also "developer"
    {"role": "user", "content": "What time is it in Oslo?"}            or [{"type": "text", "text": "..."}, ...]
    {"role": "assistant", "content": None, "reasoning": "...",         also "model"
     "tool_calls": [{"id": "call_0", "function": {"name": "get_time", "arguments": {"city": "Oslo"}}}]}
    {"role": "tool", "tool_call_id": "call_0", "content": "12:00"}     or a mapping of named results

Results of tools join the message that called for them, so that a template sees three roles: system, user and model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ..errors import PromptError, UnsupportedModelError
from .tools import Tool, is_name

Messages: TypeAlias = "Sequence[Mapping[str, Any]]"
Tools: TypeAlias = "Sequence[Mapping[str, Any] | Callable[..., Any]]"

USER, MODEL, SYSTEM, TOOL = "user", "model", "system", "tool"
ROLES = {"user": USER, "assistant": MODEL, "model": MODEL, "system": SYSTEM, "developer": SYSTEM, "tool": TOOL}


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template writes as a prompt.

    Attributes:
        messages: As the caller gave them; `read_messages` checks them.
        tools: What the model may call.
        thinking: Whether the model is to think before it answers; None leaves it to the template.
        strict: Refuse what the published template refuses, where otherwise it is put right.
        opens_answer: End with the opening of the model's turn.
    """

    messages: Messages
    tools: tuple[Tool, ...] = ()
    thinking: bool | None = None
    strict: bool = False
    opens_answer: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model called."""

    name: str
    arguments: Mapping[str, Any]
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call: a text, or a mapping of named values."""

    name: str
    value: str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the system, the user or the model.

    Attributes:
        index: Its place in what the caller gave, for error messages.
        parts: The texts of its content, as they are.
        reasoning: What the model thought before it.
        results: Of `calls`, in the order in which they were given.
    """

    index: int
    role: str
    parts: tuple[str, ...] = ()
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    results: tuple[ToolResult, ...] = ()

    @property
    def text(self) -> str:
        """The parts without the spaces around them, joined, as the published templates do."""
        return "".join(part.strip() for part in self.parts)


def read_messages(messages: object) -> list[Message]:
    """Check a conversation.

    Raises:
        PromptError: It is no list of messages, or one of them is malformed.
        UnsupportedModelError: A message has an image, audio or video part.
    """
    read: list[Message] = []
    for index, message in enumerate(as_sequence(messages)):
        if not isinstance(message, Mapping):
            raise PromptError(
                f'Message {index} should be like {{"role": "user", "content": "Hi"}}, but is {message!r:.80}.'
            )
        name = message.get("role")
        role = ROLES.get(name) if isinstance(name, str) else None
        if role is None:
            raise PromptError(f"Message {index} has the role {name!r:.40}; the roles are {', '.join(ROLES)}.")
        if role == TOOL:
            read[-1:] = [_with_result(read[-1] if read else None, message, index)]
        else:
            read.append(_read_message(message, role, index))
    return read


def as_sequence(messages: object) -> Sequence[object]:
    """The messages, of which there is one at least."""
    if isinstance(messages, Sequence) and not isinstance(messages, (str, bytes)) and messages:
        return messages
    raise PromptError(
        'A conversation is a list of at least one message such as {"role": "user", "content": "Hi"}, '
        f"not {messages!r:.80}. For plain text use generate()."
    )


def _read_message(message: Mapping[str, Any], role: str, index: int) -> Message:
    calls = _read_calls(message, index) if role == MODEL else ()
    content = message.get("content")
    parts = () if content is None and calls else _read_content(content, index)
    reasoning = (message.get("reasoning") or message.get("reasoning_content") or "") if role == MODEL else ""
    if not isinstance(reasoning, str):
        raise PromptError(f"Message {index} has as reasoning no text, but {reasoning!r:.80}.")
    return Message(index, role, parts, reasoning, calls)


def _read_content(content: object, index: int) -> tuple[str, ...]:
    if isinstance(content, str):
        return (content,)
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return tuple(_read_part(part, index) for part in content)
    raise PromptError(f"Message {index} has as content neither a text nor a list of parts, but {content!r:.80}.")


def _read_part(part: object, index: int) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(kind, str) and any(medium in kind for medium in ("image", "audio", "video")):
        raise UnsupportedModelError(
            f"Message {index} has a part of type {kind!r:.40}; this version reads text only. Leave it out."
        )
    raise PromptError(f'Message {index} has a part that is not like {{"type": "text", "text": "Hi"}}: {part!r:.80}.')


def _read_calls(message: Mapping[str, Any], index: int) -> tuple[Call, ...]:
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
        raise PromptError(f"Message {index} has as tool_calls no list, but {calls!r:.80}.")
    return tuple(_read_call(call, index) for call in calls)


def _read_call(call: object, index: int) -> Call:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not is_name(name):
        raise PromptError(
            f'Message {index} has a tool call that is not like {{"function": {{"name": "get_time", "arguments": {{}}}}}}: '
            f"{call!r:.80}."
        )
    arguments = function.get("arguments")
    if isinstance(arguments, str):  # as OpenAI writes them
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, Mapping):
        raise PromptError(
            f"Message {index} calls {name} with arguments that are neither a mapping nor a JSON object: "
            f"{function.get('arguments')!r:.80}."
        )
    call_id = call.get("id")
    return Call(str(name), arguments, call_id if isinstance(call_id, str) else None)


def _with_result(caller: Message | None, message: Mapping[str, Any], index: int) -> Message:
    """The message that called a tool, with the result that this message brings."""
    if caller is None or not caller.calls:
        raise PromptError(
            f"Message {index} is the result of a tool, but the message before it called none. "
            "Put the assistant's message with its tool_calls before it."
        )
    content = message.get("content")
    value = content if isinstance(content, Mapping) else "".join(_read_content(content, index))
    name = _name_of_result(caller, message, index)
    return replace(caller, results=(*caller.results, ToolResult(name, value)))


def _name_of_result(caller: Message, message: Mapping[str, Any], index: int) -> str:
    """Which tool it is of: by the call's id, else by its name, else by its place among the calls."""
    call_id, name = message.get("tool_call_id"), message.get("name")
    for call in caller.calls:
        if call_id is not None and call.call_id == call_id:
            return call.name
    if call_id is not None and any(call.call_id is not None for call in caller.calls):
        raise PromptError(
            f"Message {index} is the result of the call {call_id!r:.60}, which the message before has not."
        )
    if is_name(name):
        return str(name)
    if len(caller.results) < len(caller.calls):
        return caller.calls[len(caller.results)].name
    raise PromptError(f"Message {index} is one result more than there were calls. Leave it out, or name its call.")
