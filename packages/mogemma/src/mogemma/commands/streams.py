"""Standard input, output and error: texts come in, results go out, notices stay beside them."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ..errors import TokenizerError

MOST_BYTES = 2**28
"""Of standard input: far more than any context holds, so what never ends is an error and not a full memory."""

_SHOWN_CODES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""A terminal obeys control characters; what a model writes is only shown."""


def given_text(argument: str | None, name: str) -> str:
    """A text from the command line. `-`, or none where input is piped, means standard input.

    One newline at the end of standard input is not part of the text: `echo` puts it there.

    Raises:
        UsageError: There is neither.
    """
    if argument is not None and argument != "-":
        return argument
    if argument is None and (sys.stdin is None or is_terminal(sys.stdin)):
        raise click.UsageError(f"There is no {name}. Give it as an argument, or pipe it in.")
    text = read_input()
    if not text:
        raise click.UsageError(f"Standard input is empty. Give {name} as an argument, or pipe it in.")
    return text.removesuffix("\n").removesuffix("\r")


def read_input() -> str:
    """All of standard input.

    Raises:
        TokenizerError: It is no UTF-8, or too long.
    """
    if sys.stdin is None:
        return ""
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise TokenizerError(f"Standard input has more than {MOST_BYTES >> 20} MB. Give it in parts.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"Standard input is no UTF-8: its byte {error.start} is 0x{data[error.start]:02x}. "
            "Convert it, such as with `iconv -f latin1 -t utf-8`."
        ) from error


def is_terminal(stream: Any) -> bool:
    """Whether a person is at the other end; a stream that was closed before the start is None."""
    return stream is not None and not stream.closed and bool(stream.isatty())


def write(text: str) -> None:
    """Put a piece of the result on standard output at once."""
    if sys.stdout is None:
        return
    sys.stdout.write(text.translate(_SHOWN_CODES) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def think_aloud(text: str) -> None:
    """Show a piece of what a model thinks, dimmed, to the person at the terminal; it is no part of the result."""
    terminal = next((stream for stream in (sys.stdout, sys.stderr) if is_terminal(stream)), None)
    if text and terminal is not None:
        click.echo(click.style(text.translate(_SHOWN_CODES), dim=True), file=terminal, nl=False)
        terminal.flush()


def write_json(document: Any) -> None:
    """Put one JSON document on a line of its own, in characters that the output can take."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    text = json.dumps(document, ensure_ascii=encoding != "utf8", allow_nan=False)
    write(f"{text}\n")


def notice(line: str) -> None:
    """Tell the person beside the result."""
    click.echo(click.style(line, dim=True), err=True)
