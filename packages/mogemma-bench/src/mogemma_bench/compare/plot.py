"""A picture of a comparison: what each engine reached, and the line that the machine draws. Needs the extra `plot`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import BenchError, OptionError
from .result import ComparisonResult, Work

_KINDS = (".png", ".svg", ".pdf")
_PANEL_INCHES = (3.6, 3.2)


def check_plot(file: Path) -> None:
    """Find out before the work, not after it, whether its picture can be drawn.

    Raises:
        BenchError: matplotlib is not installed, or the file cannot be one.
    """
    if find_spec("matplotlib") is None:
        raise BenchError(
            "--plot needs matplotlib, which the extra `plot` brings: `uv run --package mogemma-bench --extra plot bench "
            "compare ...`, or `pip install 'mogemma-bench[plot]'`."
        )
    if file.suffix not in _KINDS:
        raise OptionError(f"--plot {file} is no picture: its name must end in {', '.join(_KINDS)}.")
    if not file.absolute().parent.is_dir():
        raise OptionError(f"--plot {file}: there is no folder {file.absolute().parent}.")


def write_plot(result: ComparisonResult, file: Path) -> None:
    """A panel for each piece of work that has a speed: a bar for each engine, a dashed line for each one's limit."""
    works = [work for work in result.works if work.workload in {"prefill", "decode", "embed"}]
    if not works:
        raise OptionError("--plot has nothing to draw: none of these workloads has a speed in tokens a second.")
    figure_type: Any = import_module("matplotlib.figure").Figure
    width, height = _PANEL_INCHES
    figure = figure_type(figsize=(width * len(works), height), layout="constrained")
    for axes, work in zip(figure.subplots(1, len(works), squeeze=False)[0], works, strict=True):
        _draw(axes, work)
    figure.suptitle(
        f"{result.model.loaded()}, {result.environment.processor}, median of {result.rounds} rounds", fontsize=9
    )
    figure.savefig(file, dpi=150)


def _draw(axes: Any, work: Work) -> None:
    for place, measured in enumerate(work.engines.values()):
        speed = measured.tokens_per_second
        spread = [[speed.median - speed.min], [speed.max - speed.median]]
        axes.bar(place, speed.median, yerr=spread, capsize=3, color=f"C{place}")
        if (limit := measured.limit_tokens_per_second) is not None:
            axes.hlines(limit, place - 0.45, place + 0.45, colors="black", linestyles="dashed")
    axes.set_xticks(range(len(work.engines)), work.engines, fontsize=8, rotation=20)
    axes.set_ylabel("tokens/s")
    axes.set_title(f"{work.workload}, {work.threads} thread{'s' * (work.threads > 1)}", fontsize=10)
