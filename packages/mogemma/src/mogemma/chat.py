"""Conversations of one model: which template writes them, what of a call is about the prompt, and what comes of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .completion import ChatEvent
from .config import CHAT_OPTIONS
from .errors import ConfigError, ModelNotFoundError
from .templates import STOPS, Conversation, as_text, choose_template, read_source, read_source_file, read_tools

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .generate import Generation, Step
    from .templates import ChatTemplate, Messages, Tool
    from .tokenizer import Tokenizer


@dataclass(frozen=True)
class ChatFormat:
    """How conversations with a model are written.

    Attributes:
        family: `ModelSpec.family`.
        choice: From `read_choice`.
    """

    family: str
    choice: str | None
    checkpoint: Checkpoint
    tokenizer: Tokenizer

    @cached_property
    def template(self) -> ChatTemplate:
        """Chosen when it is first needed: for that the vocabulary is read."""
        in_file = None if self.choice not in (None, "builtin", "file") else read_source(self.checkpoint)
        return choose_template(self.family, self.choice, in_file, self.tokenizer, str(self.checkpoint.path))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens of the vocabulary that end an answer, besides those that the model's files list."""
        ids = map(self.tokenizer.id_of, STOPS)
        return frozenset(token_id for token_id in ids if token_id is not None)

    def encode(self, messages: Messages, request: ChatRequest) -> list[int]:
        """Token ids of the prompt.

        Raises:
            PromptError: A message is malformed, or the template cannot hold the conversation.
            TokenizerError: A text is no valid Unicode, or the vocabulary lacks a marker of the template.
        """
        segments = self.template.write(
            Conversation(messages, request.tools, thinking=request.thinking, strict=request.strict)
        )
        if request.parse_special:
            return self.tokenizer.encode(as_text(segments), parse_special=True)
        return self.tokenizer.encode_segments(segments)


@dataclass(frozen=True)
class ChatRequest:
    """What of a call's options is about the prompt; `config.ChatOptions` says what each means."""

    tools: tuple[Tool, ...] = ()
    thinking: bool | None = None
    strict: bool = False
    parse_special: bool = False

    @property
    def tool_names(self) -> frozenset[str] | None:
        """None where no tools are offered: then nothing is said about those that are called."""
        return frozenset(tool.name for tool in self.tools) if self.tools else None


def divide_options(options: Mapping[str, Any]) -> tuple[ChatRequest, dict[str, Any]]:
    """The options of a call: those about the prompt, and those of sampling.

    Raises:
        ConfigError: A flag is neither true nor false.
        PromptError: A tool is described wrongly.
    """
    about_prompt = {name: options[name] for name in CHAT_OPTIONS if options.get(name) is not None}
    for name in CHAT_OPTIONS[1:]:
        if not isinstance(about_prompt.get(name, False), bool):
            raise ConfigError(f"{name} is {about_prompt[name]!r:.60}; it must be True or False.")
    if "tools" in about_prompt:
        about_prompt["tools"] = read_tools(about_prompt["tools"])
    return ChatRequest(**about_prompt), {name: value for name, value in options.items() if name not in CHAT_OPTIONS}


def read_choice(chat_template: str | Path | None) -> str | None:
    """The option `chat_template`, with the template itself in the place of a path.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelFormatError: The file is no text.
    """
    if isinstance(chat_template, str):
        if chat_template in ("builtin", "file") or "{%" in chat_template or "{{" in chat_template:
            return chat_template
        chat_template = Path(chat_template)
    if chat_template is None:
        return None
    try:
        return read_source_file(chat_template)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f'chat_template is "builtin", "file", the path of a Jinja2 template, or such a template: {error}'
        ) from error


def events_of(step: Step) -> Iterator[ChatEvent]:
    """What a step of a generation brings, as events."""
    if step.reasoning:
        yield ChatEvent("reasoning", step.reasoning)
    if step.text:
        yield ChatEvent("content", step.text)
    for call in step.tool_calls:
        yield ChatEvent("tool_call", tool_call=call)


def end_of(generation: Generation) -> ChatEvent:
    """The last event of a generation that has come to its end."""
    return ChatEvent("end", completion=generation.finish())
