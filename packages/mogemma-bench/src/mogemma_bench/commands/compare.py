"""`bench compare`: mogemma and others, turn about."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

import click

from ..compare.child import TIMEOUT_S, stopped_by_signals
from ..compare.comparison import Plan, measure_comparison
from ..compare.plot import check_plot, write_plot
from ..compare.result import COLUMNS
from ..compare.rival import EMBEDDING, GENERATION, Workload
from ..engine import Precision
from ..errors import BenchError, OptionError
from ..models import embedding_model, generation_model
from ..output import to_json, wants_json, write_machine, write_rows
from ..rivals import NAMES, Choice
from .precision import precision_options

_TOKENS = {"generation": 512, "embedding": 133}


@click.command(short_help="Measure mogemma and other engines, turn about.")
@click.option(
    "--rival",
    "rivals",
    multiple=True,
    metavar="NAME[=PATH]",
    help=f"One of {', '.join(NAMES)}; may be given several times. PATH is the Python that has the package, or the program. "
    "[default: this Python; the program in PATH]",
)
@click.option(
    "--rival-args",
    multiple=True,
    metavar="NAME=ARGS",
    help="Further arguments of a program, such as 'llama-bench=-fa 1'.",
)
@click.option("--mode", type=click.Choice(["generation", "embedding"]), default="generation", show_default=True)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="What all engines read. [default: as of bench]",
)
@click.option(
    "--workload",
    "workloads",
    metavar="NAMES",
    help=f"Of {', '.join(GENERATION)}; with --mode embedding of {', '.join(EMBEDDING)}; with commas between. [default: all]",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=7, show_default=True, metavar="N", help="After one to warm up."
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(2),
    metavar="N",
    help=f"Of the prompt, or of each text to embed. [default: {_TOKENS['generation']} and {_TOKENS['embedding']}]",
)
@click.option(
    "--max-new-tokens", type=click.IntRange(2), default=128, show_default=True, metavar="N", help="Of each decode."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    multiple=True,
    metavar="N",
    help="May be given several times. [default: 1]",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 7 * 24 * 3600),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="The longest that an engine may take to load, or for one piece of work; longer ends the comparison.",
)
@precision_options
@click.option("--json", "as_json", is_flag=True, help="A JSON document on a terminal too; elsewhere it is one anyway.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw speeds and limits into a .png or .svg.",
)
def compare(  # noqa: PLR0913, PLR0917  one for each option
    rivals: tuple[str, ...],
    rival_args: tuple[str, ...],
    mode: Literal["generation", "embedding"],
    model: Path | None,
    workloads: str | None,
    rounds: int,
    prompt_tokens: int | None,
    max_new_tokens: int,
    threads: tuple[int, ...],
    timeout: int,
    precision: Precision,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure mogemma and its rivals on the same file with as many threads, in rounds in which each has its turn.

    The result has every sample, each engine's share of what the machine could do in those rounds, and how many times as fast
    mogemma was, round by round.
    """
    try:
        choices = _choices(rivals, rival_args)
        if plot is not None:
            check_plot(plot)
        find = embedding_model if mode == "embedding" else generation_model
        plan = Plan(
            mode=mode,
            model=find(model, _tell),
            workloads=_workloads(mode, workloads),
            threads=threads or (1,),
            n_rounds=rounds,
            n_tokens=prompt_tokens or _TOKENS[mode],
            n_new_tokens=max_new_tokens,
            precision=precision,
            timeout_s=timeout,
        )
        with stopped_by_signals():
            result = measure_comparison(plan, choices, _tell)
        if plot is not None:
            write_plot(result, plot)
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if wants_json(as_json):
        click.echo(to_json(result))
        return
    write_rows(f"{result.model.loaded()}, median of {rounds} rounds", COLUMNS, result.rows(), sys.stdout, n_words=2)
    click.echo("; ".join(f"{name} {version}" for name, version in result.versions.items()))
    write_machine(result.environment, sys.stdout)


def _choices(rivals: Iterable[str], arguments: Iterable[str]) -> list[Choice]:
    """What was asked for, each rival once."""
    more: dict[str, list[str]] = {}
    for name, _, words in (text.partition("=") for text in arguments):
        more.setdefault(name, []).extend(shlex.split(words))
    choices = [Choice(name, path or None, more.pop(name, ())) for name, _, path in (x.partition("=") for x in rivals)]
    if more:
        raise OptionError(f"--rival-args names {', '.join(more)}, and no --rival does.")
    if len({choice.name for choice in choices}) < len(choices):
        raise OptionError("A rival is named twice; compare it with itself in two runs.")
    return choices


def _workloads(mode: str, names: str | None) -> tuple[Workload, ...]:
    known = EMBEDDING if mode == "embedding" else GENERATION
    wanted: list[Any] = list(known) if names is None else [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise OptionError(f"--workload {', '.join(unknown)}: with --mode {mode} there are {', '.join(known)}.")
    return cast("tuple[Workload, ...]", tuple(dict.fromkeys(wanted)))


def _tell(line: str) -> None:
    click.echo(line, err=True)
