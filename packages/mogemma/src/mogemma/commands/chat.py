"""`mogemma chat`: a conversation at the terminal, or the answer to one message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import click

import mogemma

from ..errors import CancelledError, MogemmaError
from .advice import advise
from .answer import as_document, stream
from .models import chosen_model
from .options import chat_template_option, divide, generation_options, json_option, model_option, option
from .streams import given_text, is_terminal, notice, write

HELP = """/clear  forget the conversation and start anew
/exit   end; Ctrl-D does too
/help   this list
Ctrl-C ends an answer; the conversation goes on."""
PROMPT = "> "


class Conversation:
    """What was said so far, and who answers. Of the KV cache each answer takes what it shares with the one before."""

    def __init__(self, gemma: mogemma.SyncGemmaModel, system: str | None, sampling: dict[str, Any]) -> None:
        self._gemma = gemma
        self._opening = [{"role": "system", "content": system}] if system else []
        self._sampling = sampling
        self.messages = list(self._opening)

    def clear(self) -> None:
        """Forget all but the system's text."""
        self.messages = list(self._opening)

    def document(self, message: str) -> None:
        """Write the answer to a message as JSON."""
        as_document(self._start(message), lambda: self._gemma.info)

    def answer(self, message: str) -> None:
        """Write the answer to a message, and keep both. Of an answer that was ended early what is written is kept."""
        written: list[str] = []
        try:
            stream(self._start(message), written)
        finally:
            if any(written):
                self.messages += [_user(message), {"role": "assistant", "content": "".join(written)}]

    def _start(self, message: str) -> partial[Any]:
        return partial(self._gemma.chat_generation, [*self.messages, _user(message)], **self._sampling)


@click.command(short_help="Talk with an instruction-tuned model.")
@click.argument("message", required=False)
@model_option
@option("--system", metavar="TEXT", help="What the model should know or be, before everything else.")
@option(
    "--thinking/--no-thinking",
    is_flag=True,
    default=None,
    help="Whether the model thinks before it answers, where it can. At a terminal its thoughts are shown, dimmed.",
)
@chat_template_option
@generation_options
@json_option
def chat(message: str | None, model: str | None, system: str | None, as_json: bool, **options: Any) -> None:
    """Talk with a model: at a terminal until Ctrl-D or /exit, and /help lists what else can be typed.

    With MESSAGE, or with one piped in (or with --json), that is answered alone.
    """
    loading, sampling = divide(options, as_json=as_json)
    is_alone = message is not None or as_json or not is_terminal(sys.stdin)
    text = given_text(message, "MESSAGE") if is_alone else ""
    with mogemma.SyncGemmaModel(chosen_model(model), **loading) as gemma:
        advise(gemma.info)
        conversation = Conversation(gemma, system, sampling)
        if as_json:
            conversation.document(text)
        elif is_alone:
            conversation.answer(text)
        else:
            notice(f"{gemma.info.path}; /help lists what can be typed, Ctrl-D ends.")
            converse(conversation)


def converse(conversation: Conversation) -> None:
    """Answer what is typed until there is no more. What goes wrong with one message ends nothing."""
    for line in _lines():
        word = line.strip()
        if word == "/exit":
            return
        if word == "/clear":
            conversation.clear()
        elif word == "/help":
            notice(HELP)
        elif word.startswith("/") and word[1:].isalpha():
            notice(f"There is no command {word}; /help lists them.")
        elif word:
            _answer(conversation, line)


def _answer(conversation: Conversation, line: str) -> None:
    try:
        conversation.answer(line)
    except (KeyboardInterrupt, CancelledError):
        notice("(ended)")
    except MogemmaError as error:
        notice(f"mogemma: {error}")


def _lines() -> Iterator[str]:
    """What a person types, with line editing where Python has it; Ctrl-C begins the line again."""
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415  input() uses it from here on
    while (line := _line()) is not None:
        yield line
    write("\n")


def _line() -> str | None:
    """None when there is no more; an empty line when what was typed is to be typed again."""
    try:
        if is_terminal(sys.stdout):
            return input(PROMPT)
        click.echo(PROMPT, nl=False, err=True)  # the output is for answers alone
        return input()
    except EOFError:
        return None
    except KeyboardInterrupt:
        notice("\nCtrl-D or /exit ends.")
    except UnicodeDecodeError:
        notice("mogemma: That line is no text in this terminal's encoding. Type it again.")
    return ""


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
