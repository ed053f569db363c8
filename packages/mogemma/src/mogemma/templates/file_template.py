"""A template that came with a model's files, or was given by the caller.

A template writes one string, in which a user's `<end_of_turn>` would look like the template's own. So the signs that
control tokens begin with are replaced in all that the template is given by signs of Unicode's private use, and put back
when the string has been divided: what is a marker then is the template's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..checkpoint.files import read_small_file
from ..errors import ModelFormatError, PromptError, UnsupportedModelError
from .conversation import Conversation, as_sequence
from .sandbox import MAX_SOURCE_BYTES, render
from .segments import Segment
from .template import AnswerFormat
from .tools import as_plain

if TYPE_CHECKING:
    from pathlib import Path

    from ..checkpoint import Checkpoint

Divide = Callable[[str], Iterable[tuple[str, bool]]]
"""Divides a text at the control tokens in it: `Tokenizer.split_control`."""

_PRIVATE = range(0xE000, 0xF900)


@dataclass(frozen=True)
class FileTemplate:
    """A Jinja2 template.

    Attributes:
        origin: Where it is from.
        divide: Finds control tokens in what it writes.
        openings: The signs that control tokens begin with.
        specials: The variables `bos_token` and so on.
    """

    source: str
    origin: str
    divide: Divide = field(repr=False)
    openings: frozenset[str]
    specials: Mapping[str, str]
    answer: AnswerFormat

    @property
    def name(self) -> str:
        return f"The template of {self.origin}"

    def write(self, conversation: Conversation) -> list[Segment]:
        """The prompt. Which roles there are and how they take turns is for the template to say."""
        messages = [_checked(message, index) for index, message in enumerate(as_sequence(conversation.messages))]
        self._check(conversation)
        tools = [tool.as_dict() for tool in conversation.tools]
        hide = self._hiding([messages, tools])
        variables: dict[str, Any] = {
            **self.specials,
            "messages": _translated(messages, hide),
            "tools": _translated(tools, hide) or None,
            "documents": None,
            "add_generation_prompt": conversation.opens_answer,
        }
        if conversation.thinking is not None:
            variables["enable_thinking"] = conversation.thinking
        text = render(self.source, variables, self.origin)
        show = {ord(hidden): chr(shown) for shown, hidden in hide.items()}
        segments = [Segment(part.translate(show), is_control) for part, is_control in self.divide(text)]
        if not segments:
            raise PromptError(f'{self.name} writes nothing for this conversation. Use chat_template="builtin".')
        return segments

    def _check(self, conversation: Conversation) -> None:
        """Refuse what the template would pass over in silence."""
        for is_wanted, variable, what in (
            (bool(conversation.tools), "tools", "tools"),
            (conversation.thinking is True, "enable_thinking", "thoughts"),
        ):
            if is_wanted and variable not in self.source:
                raise PromptError(
                    f"The chat template of {self.origin} knows no {what}. Leave them out, or use another."
                )

    def _hiding(self, texts: object) -> dict[int, str]:
        """For each sign that opens a control token, one that occurs nowhere."""
        used = set(self.source)
        _collect_signs(texts, used)
        free = (chr(code) for code in _PRIVATE if chr(code) not in used)
        hiding = dict(zip(map(ord, sorted(self.openings)), free, strict=False))
        if len(hiding) < len(self.openings):
            raise PromptError("The conversation has all signs of Unicode's private use; leave some of them out.")
        return hiding


def _checked(message: object, index: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise PromptError(
            f'Message {index} should be like {{"role": "user", "content": "Hi"}}, but is {message!r:.80}.'
        )
    plain: dict[str, Any] = as_plain(message, f"The contents of message {index}")
    for part in plain["content"] if isinstance(plain.get("content"), list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and any(medium in kind for medium in ("image", "audio", "video")):
            raise UnsupportedModelError(
                f"Message {index} has a part of type {kind!r:.40}; this version reads text only. Leave it out."
            )
    return plain


def _translated(value: Any, table: Mapping[int, str]) -> Any:
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, dict):
        return {key.translate(table): _translated(one, table) for key, one in value.items()}
    if isinstance(value, list):
        return [_translated(one, table) for one in value]
    return value


def _collect_signs(value: object, signs: set[str]) -> None:
    if isinstance(value, str):
        signs.update(value)
    elif isinstance(value, dict):
        _collect_signs([*value, *value.values()], signs)
    elif isinstance(value, list):
        for one in value:
            _collect_signs(one, signs)


def read_source(checkpoint: Checkpoint) -> str | None:
    """The chat template in a model's files; None where there is none.

    Looked for in a GGUF file's `tokenizer.chat_template`, or in chat_template.jinja, chat_template.json and
    tokenizer_config.json of a folder, in this order. Of several, that with the name "default" counts.

    Raises:
        ModelFormatError: It is no text, or far longer than a template is.
    """
    if checkpoint.kind == "gguf":
        return _checked_source(checkpoint.metadata.get("tokenizer.chat_template"), str(checkpoint.path))
    path = checkpoint.side_file("chat_template.jinja")
    if path is not None:
        return read_source_file(path)
    for name in ("chat_template.json", "tokenizer_config.json"):
        content = checkpoint.read_json(name)
        found = content.get("chat_template") if isinstance(content, dict) else None
        if found is not None:
            return _checked_source(_default_of(found), f"{checkpoint.path}: {name}")
    return None


def read_source_file(path: Path) -> str:
    """The template in a file of its own; errors as in `read_source`."""
    try:
        source = read_small_file(path, MAX_SOURCE_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path} is no UTF-8, so it is no chat template. Fetch it again.") from error
    return source


def _default_of(found: object) -> object:
    if not isinstance(found, list):
        return found
    named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
    return named.get("default") or next(iter(named.values()), None)


def _checked_source(found: object, where: str) -> str | None:
    if found is None or isinstance(found, str):
        if found is not None and len(found) > MAX_SOURCE_BYTES:
            raise ModelFormatError(
                f"{where} has a chat template of {len(found)} characters; at most {MAX_SOURCE_BYTES} are read. "
                'Use chat_template="builtin".'
            )
        return found
    raise ModelFormatError(f'{where} has as chat_template no text. Fetch it again, or use chat_template="builtin".')
