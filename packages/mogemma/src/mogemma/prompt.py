"""Messages to one prompt with turn markers, as Gemma was trained to read a conversation.

    <start_of_turn>user
    Be brief.

    Hi<end_of_turn>
    <start_of_turn>model

A prompt is a list of segments that say which of them are markers: only those become control tokens, so that a user who
writes `<end_of_turn>` has written just that. BOS is the tokenizer's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import PromptError, UnsupportedModelError

_USER, _MODEL, _SYSTEM = "user", "model", "system"
_ROLES = {"user": _USER, "assistant": _MODEL, "model": _MODEL, "system": _SYSTEM, "developer": _SYSTEM}
_BLANK_LINE = "\n\n"


class Segment(NamedTuple):
    """A stretch of a prompt: text, or the name of one control token."""

    text: str
    is_marker: bool = False


@dataclass(frozen=True)
class TurnFormat:
    """How a family of models writes a conversation.

    Attributes:
        takes_system: Whether the published template knows a system role. Text of that role opens the user's turn in any
            case; without this, `strict` refuses it.
    """

    turn_start: str
    turn_end: str
    takes_system: bool


GEMMA_1_AND_2 = TurnFormat("<start_of_turn>", "<end_of_turn>", takes_system=False)
GEMMA_3 = TurnFormat("<start_of_turn>", "<end_of_turn>", takes_system=True)  # and Gemma 3n


class _Turn(NamedTuple):
    role: str
    texts: list[str]


def render(
    messages: Sequence[Mapping[str, Any]],
    turn_format: TurnFormat,
    add_generation_prompt: bool = True,
    *,
    strict: bool = False,
) -> list[Segment]:
    """Write a conversation the way the model's published chat template does.

    Args:
        messages: Each a mapping with `role` (user, assistant or model, system or developer) and `content` (a text, or a
            list of parts `{"type": "text", "text": ...}`). The text of each message is stripped of surrounding spaces,
            that of the system is not; both as the templates do.
        add_generation_prompt: End with the opening of the model's turn.
        strict: Refuse what the published template refuses: roles that do not take turns, beginning with the user's.
            Otherwise neighbouring messages of one side become one turn, with a blank line between them, and a system
            message belongs to the user's side wherever it stands.

    Raises:
        PromptError: A message is malformed, or refused because of `strict`.
        UnsupportedModelError: A message has an image, audio or video part.
    """
    checked = [_read_message(message, index) for index, message in enumerate(_as_sequence(messages))]
    if strict:
        _check_alternation(checked, turn_format)
    segments: list[Segment] = []
    for turn in _merge_turns(checked):
        opening = f"{turn.role}\n{_BLANK_LINE.join(turn.texts)}"
        segments += [Segment(turn_format.turn_start, is_marker=True), Segment(opening)]
        segments += [Segment(turn_format.turn_end, is_marker=True), Segment("\n")]
    if add_generation_prompt:
        segments += [Segment(turn_format.turn_start, is_marker=True), Segment(f"{_MODEL}\n")]
    return segments


def as_text(segments: Iterable[Segment]) -> str:
    """A prompt as one string, to be shown."""
    return "".join(segment.text for segment in segments)


def _merge_turns(messages: Iterable[tuple[str, str]]) -> list[_Turn]:
    turns: list[_Turn] = []
    for role, text in messages:
        side = _USER if role == _SYSTEM else role
        if turns and turns[-1].role == side:
            turns[-1].texts.append(text)
        else:
            turns.append(_Turn(side, [text]))
    return turns


def _check_alternation(messages: list[tuple[str, str]], turn_format: TurnFormat) -> None:
    roles = [role for role, _ in messages]
    if roles[0] == _SYSTEM and turn_format.takes_system:
        roles = roles[1:]
    for index, role in enumerate(roles):
        expected = _MODEL if index % 2 else _USER
        if role != expected:
            raise PromptError(
                f"Message {len(messages) - len(roles) + index} is of the role {role!r} where this model's template expects "
                f"{expected!r}. Let user and assistant take turns, beginning with the user, or leave out strict=True."
            )
    if not roles:
        raise PromptError(
            "There is a system message but no user's, and the template writes none alone. Add what the user says."
        )


def _as_sequence(messages: object) -> Sequence[object]:
    if isinstance(messages, Sequence) and not isinstance(messages, (str, bytes)) and messages:
        return messages
    raise PromptError(
        'A conversation is a list of at least one message such as {"role": "user", "content": "Hi"}, '
        f"not {messages!r:.80}. For plain text use generate()."
    )


def _read_message(message: object, index: int) -> tuple[str, str]:
    """Role and text of one message."""
    if not isinstance(message, Mapping):
        raise PromptError(
            f'Message {index} should be like {{"role": "user", "content": "Hi"}}, but is {message!r:.80}.'
        )
    name, content = message.get("role"), message.get("content")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise PromptError(f"Message {index} has the role {name!r:.40}; the roles are {', '.join(_ROLES)}.")
    if isinstance(content, str):
        texts = [content]
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        texts = [_read_part(part, index) for part in content]
    else:
        raise PromptError(f"Message {index} has as content neither a text nor a list of parts, but {content!r:.80}.")
    return role, "".join(texts if role == _SYSTEM else map(str.strip, texts))


def _read_part(part: object, index: int) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(kind, str) and any(medium in kind for medium in ("image", "audio", "video")):
        raise UnsupportedModelError(
            f"Message {index} has a part of type {kind!r:.40}; this version reads text only. Leave it out."
        )
    raise PromptError(f'Message {index} has a part that is not like {{"type": "text", "text": "Hi"}}: {part!r:.80}.')
