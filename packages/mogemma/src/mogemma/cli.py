"""The `mogemma` command: which commands there are, and how each of them may end.

0    done                                       130  Ctrl-C
1    it went wrong: one sentence says how       141  the reader of the output left, as in `| head -1`
2    the command line was wrong
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

from .commands.chat import chat
from .commands.doctor import doctor
from .commands.embed import embed
from .commands.generate import generate
from .commands.info import info
from .commands.list import list_models
from .commands.pull import pull
from .commands.quantize import quantize
from .commands.rm import rm
from .commands.tokenize import tokenize
from .errors import CancelledError, ConfigError, MogemmaError

INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13


class Failure(click.ClickException):
    """An expected error: its sentence on standard error, and exit status 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"mogemma: {self.format_message()}", file=file, err=file is None)


class WrongOption(Failure):
    """An option that the library refuses: as wrong as one that click refuses."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands raise what the library raises; here it becomes a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        _write_in_any_encoding()
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # its errors belong here, not to the interpreter's end
        except (KeyboardInterrupt, CancelledError):
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(BROKEN_PIPE)
        except ConfigError as error:
            raise WrongOption(str(error)) from error
        except MogemmaError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            _discard_output()
            where = error.filename or "Input or output failed"
            raise Failure(f"{where}: {error.strerror or error}.") from error
        except MemoryError as error:
            raise Failure("There is not enough memory. Give less at once, or close other programs.") from error
        return result


def _write_in_any_encoding() -> None:
    r"""Write characters that the terminal's encoding lacks as \x.., rather than fail on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it when it ends."""
    with suppress(OSError, ValueError, AttributeError):  # a standard output without a file behind it needs nothing
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""Every option that takes a value can also be set by an environment variable: --max-tokens by
    MOGEMMA_MAX_TOKENS, and so on. The option wins. `mogemma doctor` lists them all.""",
)
@click.version_option(package_name="mogemma")
def main() -> None:
    """Google's Gemma models on the machine you have: text and embeddings.

    Results go to standard output, progress and notices to standard error.
    """


for _command in (generate, chat, embed, tokenize, info, pull, list_models, rm, quantize, doctor):
    main.add_command(_command)
