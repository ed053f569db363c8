"""What the baseline files say, and whether two of them say that something became slower.

Noise is what makes this hard: on a shared machine equal things differ. Two measures against it:

- The threshold of each figure comes from runs of one commit, one after another (docs/baseline-noise.json): three times the
  standard deviation that a ratio of two such runs has, estimated robustly, and at least MIN_THRESHOLD. A normal spread
  passes three of them once in 700 comparisons on the bad side.
- Speeds also stand as a share of what the machine could do at most in the same run. A regression is a figure that is worse
  by more than its threshold both plainly and as a share: a machine that was slow throughout makes only the first so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .errors import ReleaseError
from .files import read_json
from .runbook import BASELINES

NOISE = "docs/baseline-noise.json"
MIN_THRESHOLD = 0.05
DEVIATIONS = 3.0
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

SAME_MACHINE: Mapping[str, Callable[[Any], Any]] = {
    "platform": lambda told: str(told).partition("-")[0],  # the system; its kernel gets a new number with every update
    "processor": str,
    "cores": str,
    "memory_bytes": lambda told: round(told / 2**30),  # as much as a kernel leaves
    "cpu_level": str,
    "threads": str,
    "python": lambda told: str(told).split(".")[:2],
}
"""What two baselines that are compared must have in common, and how much of it."""

SAME_WORK = ("mode", "rounds", "model.sha256", "model.arithmetic", "model.quantize")


@dataclass(frozen=True)
class Figure:
    """A figure of a baseline file.

    Attributes:
        path: Where its median stands, with dots between the keys.
        limit: Where the machine's own most stands, in the same run; None for what no such limit bounds.
        per: What the figure is of, so that equal work is compared; the path of a number.
        more_is_better: Of the figure itself.
    """

    name: str
    mode: str
    path: str
    unit: str
    more_is_better: bool
    limit: str | None = None
    per: str | None = None


FIGURES: tuple[Figure, ...] = (
    Figure(
        "prefill",
        "generation",
        "prefill.tokens_per_second",
        "tokens/s",
        True,
        "compute.machine_macs_per_s",
        "prefill.tokens",
    ),
    Figure(
        "decode",
        "generation",
        "decode.tokens_per_second",
        "tokens/s",
        True,
        "bandwidth.machine_bytes_per_s",
        "decode.tokens",
    ),
    Figure("time to first token", "generation", "first_token.seconds", "s", False, "compute.machine_macs_per_s"),
    Figure("peak memory", "generation", "peak_rss_bytes", "bytes", False),
    Figure(
        "embedding",
        "embedding",
        "embedding.tokens_per_second",
        "tokens/s",
        True,
        "compute.machine_macs_per_s",
        "embedding.tokens",
    ),
    Figure(
        "short query",
        "embedding",
        "embedding.query_seconds",
        "s",
        False,
        "bandwidth.machine_bytes_per_s",
        "embedding.query_tokens",
    ),
    Figure("peak memory", "embedding", "peak_rss_bytes", "bytes", False),
)


class Baseline:
    """A baseline file, checked."""

    def __init__(self, value: Any, source: str) -> None:
        """Raises ReleaseError where the document lacks a figure, or contradicts itself."""
        self.value = value
        self.source = source
        mode = value.get("mode") if isinstance(value, dict) else None
        if not isinstance(mode, str) or mode not in BASELINES:
            raise ReleaseError(f"{source} is no baseline: its mode is {mode!r:.40}, not one of {', '.join(BASELINES)}.")
        self.mode = mode
        for figure in self.figures:
            self._check_spread(figure)
        for path in (*SAME_WORK, *(f"environment.{name}" for name in SAME_MACHINE), "environment.commit"):
            self.get(path)
        self.number("environment.memory_bytes")

    @staticmethod
    def read(file: Path) -> Baseline:
        return Baseline(read_json(file), str(file))

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(figure for figure in FIGURES if figure.mode == self.mode)

    def get(self, path: str) -> Any:
        """The value at a path such as `environment.commit`."""
        value = self.value
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                raise ReleaseError(f"{self.source} lacks {path}: capture it anew (docs/performance-baselines.md).")
            value = value[key]
        return value

    def number(self, path: str) -> float:
        value = self.get(path)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ReleaseError(f"{self.source}: {path} is {value!r:.40}, not a number above 0: capture it anew.")
        return float(value)

    def median(self, figure: Figure) -> float:
        return self.number(f"{figure.path}.median" if isinstance(self.get(figure.path), Mapping) else figure.path)

    def share(self, figure: Figure) -> float | None:
        """The figure over what the machine could do at most, in the figure's own unit; None where nothing bounds it."""
        if figure.limit is None:
            return None
        most = self.number(figure.limit)
        return self.median(figure) / most if figure.more_is_better else self.median(figure) * most

    def samples(self, figure: Figure) -> Sequence[float]:
        """Every round, in the order taken; one for what is measured once."""
        spread = self.get(figure.path)
        return spread["samples"] if isinstance(spread, Mapping) else [float(spread)]

    def least_and_most(self, figure: Figure) -> tuple[float, float]:
        """Least and most of the rounds."""
        samples = self.samples(figure)
        return min(samples), max(samples)

    def _check_spread(self, figure: Figure) -> None:
        spread = self.get(figure.path)
        if not isinstance(spread, Mapping):
            self.number(figure.path)
            return
        samples = self.get(f"{figure.path}.samples")
        if not isinstance(samples, list) or len(samples) != self.get("rounds"):
            raise ReleaseError(f"{self.source}: {figure.path} has not one sample for each round: capture it anew.")
        told = [self.number(f"{figure.path}.{key}") for key in ("median", "min", "max")]
        if not all(isinstance(x, (int, float)) and x > 0 for x in samples) or not all(
            math.isclose(a, b, rel_tol=1e-9)
            for a, b in zip(told, (median(samples), min(samples), max(samples)), strict=True)
        ):
            raise ReleaseError(f"{self.source}: median, min and max of {figure.path} are not those of its samples.")


@dataclass(frozen=True)
class Noise:
    """How far equal runs are apart.

    Attributes:
        runs: Of each figure, by mode and name: the median of each run of one commit on one machine.
    """

    environment: Mapping[str, Any]
    runs: Mapping[str, Sequence[float]]

    @staticmethod
    def read(file: Path) -> Noise:
        value = read_json(file)
        try:
            return Noise(value["environment"], {str(k): [float(x) for x in v] for k, v in value["runs"].items()})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ReleaseError(f"{file} is damaged: measure it anew with `release baselines --noise 8`.") from None

    def deviation(self, figure: Figure, *, of_share: bool = False) -> float:
        """Standard deviation of the logarithm of a ratio of two runs, estimated robustly."""
        key = noise_key(figure, of_share=of_share)
        if len(self.runs.get(key, ())) < 4:
            raise ReleaseError(
                f"{NOISE} has not four runs of {key}: measure it anew with `release baselines --noise 8`."
            )
        logs = [math.log(x) for x in self.runs[key]]
        middle = median(logs)
        return math.sqrt(2) * MAD_TO_SD * median(abs(x - middle) for x in logs)

    def threshold(self, figure: Figure) -> float:
        """The part of itself by which a figure may be worse; the larger one of figure and share."""
        kinds = [False] if figure.limit is None else [False, True]
        widest = max(self.deviation(figure, of_share=kind) for kind in kinds)
        return max(MIN_THRESHOLD, 1 - math.exp(-DEVIATIONS * widest))


def noise_key(figure: Figure, *, of_share: bool) -> str:
    return f"{figure.mode} {figure.name}{' share' if of_share else ''}"


@dataclass(frozen=True)
class Change:
    """A figure before and after.

    Attributes:
        before, after: Medians.
        before_range, after_range: Least and most of the rounds.
        ratio: Above 1 is better, whichever way the figure goes.
        share_ratio: The same of the share of the machine's most; None where nothing bounds the figure.
    """

    figure: Figure
    before: float
    after: float
    before_range: tuple[float, float]
    after_range: tuple[float, float]
    ratio: float
    share_ratio: float | None
    threshold: float

    @property
    def is_regression(self) -> bool:
        least = 1 - self.threshold
        return self.ratio < least and (self.share_ratio is None or self.share_ratio < least)


def differences(before: Baseline, after: Baseline) -> list[str]:
    """Why two baselines cannot be compared: each difference of machine or work; none when they can."""
    parts: dict[str, Callable[[Any], Any]] = {f"environment.{name}": part for name, part in SAME_MACHINE.items()}
    parts |= dict.fromkeys([*SAME_WORK, *(figure.per for figure in after.figures if figure.per)], lambda told: told)
    found = ((path, part, before.get(path), after.get(path)) for path, part in parts.items())
    return [f"{path} was {old!r}, is {new!r}" for path, part, old, new in found if part(old) != part(new)]


def compare(before: Baseline, after: Baseline, noise: Noise) -> list[Change]:
    """Every figure of two baselines of one machine.

    Raises:
        ReleaseError: They are of different machines, or of different work.
    """
    if apart := differences(before, after):
        raise ReleaseError(
            f"{before.source} and {after.source} cannot be compared: {'; '.join(apart)}. Capture the older one on this "
            "machine: check its commit out beside this clone, and run the commands of docs/performance-baselines.md."
        )
    return [_change(figure, before, after, noise) for figure in after.figures]


def _change(figure: Figure, before: Baseline, after: Baseline, noise: Noise) -> Change:
    old, new = before.median(figure), after.median(figure)
    old_share, new_share = before.share(figure), after.share(figure)

    def ratio(first: float, second: float) -> float:
        return second / first if figure.more_is_better else first / second

    share_ratio = None if old_share is None or new_share is None else ratio(old_share, new_share)
    return Change(
        figure,
        old,
        new,
        before.least_and_most(figure),
        after.least_and_most(figure),
        ratio(old, new),
        share_ratio,
        noise.threshold(figure),
    )
