"""`bench roofline`: what this machine can do at most."""

from __future__ import annotations

import sys

import click

from ..errors import BenchError
from ..output import to_json, wants_json, write_machine, write_rows
from ..roofline import measure_rooflines


@click.command(short_help="Measure what this machine can do at most.")
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    multiple=True,
    metavar="N",
    help="May be given several times. [default: 1, and the cores there are]",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON document on a terminal too; elsewhere it is one anyway.")
def roofline(threads: tuple[int, ...], as_json: bool) -> None:
    """Measure reading from memory, and the peak of the dot-product instructions that the kernels use: no model needed.

    Decode cannot be faster than reading its weights, and prefill not faster than their products; every result of `bench`
    says how near it comes.
    """
    try:
        result = measure_rooflines(threads)
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    if wants_json(as_json):
        click.echo(to_json(result))
        return
    counts = [f"{line.threads} thread{'s' * (line.threads > 1)}" for line in result.rooflines]
    write_rows("The most that this machine can do", ["limit", *counts], result.rows(), sys.stdout)
    write_machine(result.environment, sys.stdout)
