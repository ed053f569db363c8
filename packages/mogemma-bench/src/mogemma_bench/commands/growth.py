"""`bench growth`: what longer prompts cost."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..engine import Precision
from ..errors import BenchError, OptionError
from ..growth import COLUMNS, LENGTHS, measure_growth
from ..library import MogemmaGenerator
from ..models import generation_model
from ..output import to_json, wants_json, write_machine, write_rows
from .precision import precision_options


@click.command(short_help="Measure what longer prompts cost.")
@click.option(
    "--model", type=click.Path(exists=True, path_type=Path), metavar="PATH", help="[default: as of bench, Gemma 3 270M]"
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(2),
    multiple=True,
    metavar="N",
    help=f"May be given several times; cut to what the model holds. [default: {', '.join(map(str, LENGTHS))}]",
)
@click.option(
    "--max-new-tokens", type=click.IntRange(1), default=32, show_default=True, metavar="N", help="Behind each prompt."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, metavar="N", help="After one to warm up."
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Threads that compute. [default: the cores there are]"
)
@precision_options
@click.option("--json", "as_json", is_flag=True, help="A JSON document on a terminal too; elsewhere it is one anyway.")
def growth(
    model: Path | None,
    prompt_tokens: tuple[int, ...],
    max_new_tokens: int,
    rounds: int,
    threads: int | None,
    precision: Precision,
    as_json: bool,
) -> None:
    """Measure prefill of prompts of several lengths, and decode behind each of them."""
    try:
        path = generation_model(model, _tell)
        result = measure_growth(
            path,
            lambda: MogemmaGenerator(path, context=None, threads=threads, precision=precision),
            lengths=prompt_tokens or LENGTHS,
            n_rounds=rounds,
            n_new_tokens=max_new_tokens,
            tell=_tell,
        )
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if wants_json(as_json):
        click.echo(to_json(result))
        return
    write_rows(f"{result.model.loaded()}, median of {rounds}", COLUMNS, result.rows(), sys.stdout)
    write_machine(result.environment, sys.stdout)


def _tell(line: str) -> None:
    click.echo(line, err=True)
