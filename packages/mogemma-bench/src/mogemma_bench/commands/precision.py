"""`--arithmetic` and `--quantize`, which several commands have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from ..engine import Precision


def precision_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the two options to a command, which gets them as its argument `precision`."""

    @click.option(
        "--arithmetic",
        type=click.Choice(["int8", "bfloat16", "float32"]),
        help="What mogemma multiplies in. [default: mogemma's own]",
    )
    @click.option(
        "--quantize",
        type=click.Choice(["q8_0", "q6_k", "q4_k", "q4_0", "bf16"]),
        help="What mogemma brings float weights to while it loads them. [default: they stay as stored]",
    )
    @functools.wraps(command)
    def with_precision(*arguments: Any, arithmetic: str | None, quantize: str | None, **others: Any) -> None:
        command(*arguments, precision=Precision(arithmetic, quantize), **others)

    return with_precision
