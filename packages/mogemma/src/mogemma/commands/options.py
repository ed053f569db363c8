"""Options that several commands share, and the environment variables that set them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Decorator = Callable[[_Command], _Command]

LOADING = ("context", "threads", "arithmetic", "quantize", "cache", "chat_template")
"""Options of `generate` and `chat` that a model is loaded with; what is not one of them is about sampling."""


class _Lines(click.types.StringParamType):
    """Texts as they are; in an environment variable one a line, since they may contain spaces."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return rv.splitlines()


def variable_of(name: str) -> str:
    """The environment variable of an option: MOGEMMA_MAX_TOKENS of --max-tokens."""
    return f"MOGEMMA_{name.lstrip('-').replace('-', '_').upper()}"


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """A click option. One that takes a value can be set by an environment variable; flags are for one call."""
    if not attributes.get("is_flag"):
        attributes.setdefault("envvar", variable_of(next(name for name in names if name.startswith("--"))))
    return click.option(*names, **attributes)


model_option = option(
    "-m",
    "--model",
    metavar="MODEL",
    help="Path or name of a model, or org/name on the hub; downloaded if need be. [default: gemma-3-270m-it]",
)
json_option = option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")

_THREADS = option("--threads", type=int, metavar="N", help="Threads that compute. [default: the cores there are]")
_ARITHMETIC = option(
    "--arithmetic",
    type=click.Choice(["int8", "float32", "bfloat16"]),
    help="int8 rounds activations to 8 bits where weights are quantised; float32 is exact and slower; bfloat16 is as int8, "
    "and rounds float weights to bfloat16. [default: int8]",
)
_QUANTIZE = option(
    "--quantize",
    type=click.Choice(["q8_0", "q6_k", "q4_k", "q4_0", "bf16"]),
    help="Bring float weights to this format while loading. [default: they stay as they are]",
)
_SAMPLING = (
    option("--max-tokens", type=int, metavar="N", help="Most tokens to write. [default: until the model ends]"),
    option("--temperature", type=float, metavar="T", help="0 always takes the likeliest token. [default: 1]"),
    option("--top-k", type=int, metavar="N", help="Draw from the N likeliest tokens; 0: from all. [default: 64]"),
    option("--top-p", type=float, metavar="P", help="Draw from the tokens that make up probability P. [default: 0.95]"),
    option(
        "--min-p", type=float, metavar="P", help="Leave out tokens less likely than P times the likeliest. [default: 0]"
    ),
    option(
        "--repetition-penalty",
        "--repeat-penalty",
        "repetition_penalty",
        type=float,
        metavar="X",
        help="Above 1: less of what prompt and text already have. [default: 1]",
    ),
    option("--frequency-penalty", type=float, metavar="X", help="Per time that the text has a token. [default: 0]"),
    option("--presence-penalty", type=float, metavar="X", help="Once for a token that the text has. [default: 0]"),
    option(
        "--stop",
        type=_Lines(),
        multiple=True,
        metavar="TEXT",
        help="End before this text. May be repeated; in the environment variable one a line.",
    ),
    option("--seed", type=int, metavar="N", help="The same seed gives the same text. [default: another each time]"),
    option(
        "--logprobs", type=int, metavar="N", help="With --json: log-probabilities of each token and the N likeliest."
    ),
)
_DENSE = option(
    "--dense",
    type=click.Choice(["required", "skip"]),
    help="skip leaves the dense heads of EmbeddingGemma out, also where the file has none. [default: required]",
)
_LOADING = (
    option(
        "--context",
        type=int,
        metavar="N",
        help="Tokens of prompt and answer together. [default: the model's limit, or what fits half of the free memory]",
    ),
    _THREADS,
    _ARITHMETIC,
    _QUANTIZE,
    option("--cache", type=click.Choice(["f16", "bf16", "f32"]), help="Numbers of the KV cache. [default: bf16]"),
)

chat_template_option = option(
    "--chat-template",
    metavar="TEMPLATE",
    help="builtin, file, or the path of a Jinja2 template. [default: builtin, unless the model's file shows another]",
)


def generation_options(command: _Command) -> _Command:
    """The options of a command that writes text, but for the model."""
    return _with(command, (*_SAMPLING, *_LOADING))


def embedding_options(command: _Command) -> _Command:
    """The options that an embedding model is loaded with, but for the model."""
    return _with(command, (_THREADS, _ARITHMETIC, _QUANTIZE, _DENSE))


def _with(command: _Command, options: Sequence[Callable[[Any], Any]]) -> _Command:
    for each in reversed(options):
        command = each(command)
    return command


def divide(options: Mapping[str, Any], *, as_json: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of `generation_options` that are set: those to load a model with, and those of sampling.

    Raises:
        UsageError: Log-probabilities are wanted where there is no place for them.
    """
    if options["logprobs"] is not None and not as_json:
        raise click.UsageError("--logprobs are a part of the JSON document. Add --json.")
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return (
        {name: value for name, value in given.items() if name in LOADING},
        {name: value for name, value in given.items() if name not in LOADING},
    )
