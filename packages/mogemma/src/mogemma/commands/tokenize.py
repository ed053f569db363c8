"""`mogemma tokenize`: text to token ids, and back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from ..errors import TokenizerError
from .models import chosen_model, open_either
from .options import json_option, model_option
from .streams import given_text, write, write_json

if TYPE_CHECKING:
    from ..tokenizer import Tokenizer


@click.command(short_help="Show the tokens of a text.")
@click.argument("text", required=False)
@model_option
@click.option("--ids", "only_ids", is_flag=True, help="Print the ids alone, on one line.")
@click.option("--count", "only_count", is_flag=True, help="Print how many there are.")
@click.option("--decode", is_flag=True, help="The other way: TEXT is token ids, and its text is printed.")
@click.option("--no-bos", is_flag=True, help="Put no token before and behind the text.")
@click.option(
    "--parse-special", is_flag=True, help="<start_of_turn> and its like are control tokens in the text, not text."
)
@json_option
def tokenize(
    text: str | None,
    model: str | None,
    only_ids: bool,
    only_count: bool,
    decode: bool,
    no_bos: bool,
    parse_special: bool,
    as_json: bool,
) -> None:
    """Show the tokens of TEXT as the model reads it, a line for each: its id and how it is spelled.

    With -, or without TEXT where input is piped, it is read from standard input, but for a newline at its end.
    """
    if only_ids + only_count + decode > 1:
        raise click.UsageError("--ids, --count and --decode are three different outputs. Give one of them.")
    given = given_text(text, "TEXT")
    with open_either(chosen_model(model)) as opened:
        tokenizer = opened.tokenizer
        if decode:
            _decode(tokenizer, _ids(given), skip_special=not parse_special, as_json=as_json)
            return
        ids = tokenizer.encode(given, not no_bos, parse_special)
        if as_json:
            write_json({"n_tokens": len(ids), "token_ids": ids, "pieces": [tokenizer.piece_of(each) for each in ids]})
        elif only_count:
            write(f"{len(ids)}\n")
        elif only_ids:
            write(f"{' '.join(map(str, ids))}\n")
        else:
            for each in ids:
                piece = json.dumps(tokenizer.piece_of(each), ensure_ascii=False)  # so that spaces show
                write(f"{each:>7}  {piece}\n")


def _decode(tokenizer: Tokenizer, ids: list[int], *, skip_special: bool, as_json: bool) -> None:
    text = tokenizer.decode(ids, skip_special)
    if as_json:
        write_json({"n_tokens": len(ids), "token_ids": ids, "text": text})
    else:
        write(f"{text}\n")


def _ids(text: str) -> list[int]:
    """Numbers with spaces or commas between them, or a JSON list."""
    words = re.split(r"[\s,]+", text.strip().removeprefix("[").removesuffix("]").strip())
    try:
        return [_id(word) for word in words if word]
    except ValueError as error:
        raise TokenizerError(f"{error} is no token id. Give whole numbers, such as: 2 818 5279.") from None


def _id(word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 18:
        raise ValueError(repr(word[:40]))
    return int(word)
