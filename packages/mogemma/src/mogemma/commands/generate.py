"""`mogemma generate`: continues a text."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

import mogemma

from .advice import advise
from .answer import as_document, stream
from .models import chosen_model
from .options import divide, generation_options, json_option, model_option
from .streams import given_text, write


@click.command(short_help="Continue a text.")
@click.argument("prompt", required=False)
@model_option
@generation_options
@click.option("--echo", is_flag=True, help="Write the prompt before its continuation.")
@json_option
def generate(prompt: str | None, model: str | None, echo: bool, as_json: bool, **options: Any) -> None:
    """Continue PROMPT, a text as it is; to ask an instruction-tuned model something, use `mogemma chat`.

    With - in its place, or without it where input is piped, the prompt is read from standard input, but for a newline at
    its end. The text is written as it comes; how fast it came is said on standard error.
    """
    loading, sampling = divide(options, as_json=as_json)
    text = given_text(prompt, "PROMPT")
    with mogemma.SyncGemmaModel(chosen_model(model), **loading) as gemma:
        advise(gemma.info)
        start = partial(gemma.generation, text, **sampling)
        if as_json:
            as_document(start, lambda: gemma.info)
            return
        if echo:
            write(text)
        stream(start)
