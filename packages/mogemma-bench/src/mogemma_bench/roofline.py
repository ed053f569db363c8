"""The most that this machine can do, and `bench roofline`, which shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mogemma import MogemmaError, Roofline, measure_roofline

from .errors import BenchError
from .machine import Environment, environment, load_average


@dataclass(frozen=True, slots=True)
class RooflineResult:
    """One `Roofline` for each number of threads."""

    mode: str
    rooflines: tuple[Roofline, ...]
    environment: Environment

    def rows(self) -> list[tuple[str, ...]]:
        """A line of a table for each limit, a column for each number of threads."""
        lines: dict[str, list[float | None]] = {
            "read from memory, GB/s": [line.read_bytes_per_s for line in self.rooflines],
            "int8 products, GMAC/s": [line.int8_macs_per_s for line in self.rooflines],
            "bfloat16 products, GMAC/s": [line.bfloat16_macs_per_s for line in self.rooflines],
            "float32 products, GMAC/s": [line.float32_macs_per_s for line in self.rooflines],
        }
        return [(name, *("-" if x is None else f"{x / 1e9:,.1f}" for x in values)) for name, values in lines.items()]


def roofline(threads: int | None) -> Roofline:
    """Measure; None as `threads` leaves the choice to mogemma.

    Raises:
        BenchError: There is no memory for it, or no kernel.
    """
    try:
        return measure_roofline(threads)
    except MogemmaError as error:
        raise BenchError(str(error)) from error


def roofline_apart(threads: int) -> Roofline:
    """The same, measured in a process of its own.

    The memory that it reads would else be in the peak of every program that this process starts afterwards.
    """
    command = [sys.executable, "-m", "mogemma_bench.cli", "roofline", "--json", "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    if done.returncode:
        raise BenchError(f"The machine's limits could not be measured: {done.stderr.strip()}")
    return Roofline(**json.loads(done.stdout)["rooflines"][0])


def measure_rooflines(threads: Sequence[int]) -> RooflineResult:
    """For one thread after the other number of them; without any, for one and for as many as mogemma would take."""
    load = load_average()
    lines = [roofline(n) for n in threads or (1,)]
    if not threads and (most := roofline(None)).threads > 1:
        lines.append(most)
    return RooflineResult("roofline", tuple(lines), environment(lines[-1].level, lines[-1].threads, load))
