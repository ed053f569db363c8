"""How results are written: one JSON document, or tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table

from .machine import Environment


def wants_json(asked: bool) -> bool:
    """A program that reads the output gets JSON without asking."""
    return asked or not sys.stdout.isatty()


def to_json(result: Any) -> str:
    """One JSON document of a dataclass."""
    return json.dumps(asdict(result), indent=2, allow_nan=False)


def write_rows(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], file: IO[str], *, n_words: int = 1
) -> None:
    """A table whose first columns are words, and the others figures."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < n_words else "right")
    for row in rows:
        table.add_row(*row)
    Console(file=file, highlight=False).print(table)


def write_machine(environment: Environment, file: IO[str]) -> None:
    """A line below the tables: what the figures belong to."""
    threads = f"{environment.threads} thread{'s' * (environment.threads > 1)}"
    line = (
        f"{environment.processor}, {environment.cores} cores, {environment.cpu_level}, {threads}; "
        f"{environment.python}, mogemma {environment.mogemma} {environment.commit or ''}".rstrip()
    )
    Console(file=file, highlight=False).print(line, style="dim")
