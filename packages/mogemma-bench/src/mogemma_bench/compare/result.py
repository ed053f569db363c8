"""What a comparison results in: speeds side by side, the limit that binds them, and ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from mogemma import Roofline

from ..engine import Facts
from ..machine import Environment
from ..measure import Spread
from ..report import Model
from .rival import Sample, Workload


@dataclass(frozen=True, slots=True)
class Measured:
    """One engine at one piece of work.

    Attributes:
        arithmetic: What its limit is a limit of.
        limit_tokens_per_second: The median of what the machine could have done in each round; None where neither memory
            nor products bind.
        share: Median speed by that limit.
        peak_rss_bytes: Of its process, in all jobs of these threads but cold starts.
    """

    arithmetic: str
    seconds: Spread
    tokens_per_second: Spread
    limit_tokens_per_second: float | None
    share: float | None
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work with so many threads.

    Attributes:
        tokens: What each sample comes to.
        ratios: How many times as fast mogemma is as each rival, round by round.
        rooflines: What the machine could do, round by round.
    """

    workload: Workload
    threads: int
    tokens: int
    engines: Mapping[str, Measured]
    ratios: Mapping[str, Spread]
    rooflines: Sequence[Roofline]


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """`versions` are those of the engines; each round's sample counts, the one before them, to warm up, does not."""

    mode: str
    rounds: int
    versions: Mapping[str, str]
    works: Sequence[Work]
    environment: Environment
    model: Model

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Lines of a table: work, engine, speed, its spread, share of the limit, ratio, memory."""
        for work in self.works:
            what = f"{work.workload}, {work.tokens} tokens, {work.threads} thread{'s' * (work.threads > 1)}"
            for name, measured in work.engines.items():
                share = "" if measured.share is None else f"{measured.share:.0%}"
                memory = f"{measured.peak_rss_bytes / 1e6:,.0f} MB"
                yield what, name, *_speed(work.workload, measured), share, _ratio(work.ratios.get(name)), memory
                what = ""


COLUMNS = ("work", "engine", "median", "least to most", "of the limit", "mogemma is", "peak memory")


def _speed(workload: Workload, measured: Measured) -> tuple[str, str]:
    """Tokens a second, or the time where one waits for the whole."""
    if workload in {"cold-start", "query"}:
        seconds = measured.seconds
        return f"{1000 * seconds.median:,.1f} ms", f"{1000 * seconds.min:,.1f} to {1000 * seconds.max:,.1f}"
    speed = measured.tokens_per_second
    return f"{speed.median:,.1f} tokens/s", f"{speed.min:,.1f} to {speed.max:,.1f}"


def _ratio(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} x as fast ({ratio.min:.2f} to {ratio.max:.2f})"


def work_of(
    workload: Workload,
    facts: Mapping[str, Facts],
    limits: Sequence[Roofline],
    samples: Mapping[str, Sequence[Sample]],
    peaks: Mapping[str, int],
) -> Work:
    """Put together what the rounds gave, all by the names of the engines; mogemma comes first in `samples`.

    Args:
        facts: What each engine multiplies, in which arithmetic, and what it reads.
    """
    engines = {}
    for name, taken in samples.items():
        speed = Spread.of(sample.tokens / sample.seconds for sample in taken)
        limit = _limit(workload, facts[name], limits)
        engines[name] = Measured(
            arithmetic=facts[name].arithmetic,
            seconds=Spread.of(sample.seconds for sample in taken),
            tokens_per_second=speed,
            limit_tokens_per_second=limit,
            share=speed.median / limit if limit else None,
            peak_rss_bytes=peaks[name],
        )
    ours, *rivals = engines
    ratios = {name: engines[ours].tokens_per_second / engines[name].tokens_per_second for name in rivals}
    return Work(workload, facts[ours].threads, samples[ours][0].tokens, engines, ratios, limits)


def _limit(workload: Workload, facts: Facts, limits: Sequence[Roofline]) -> float | None:
    """Tokens a second: decode reads every weight for each token, prefill and embedding multiply by those of the layers."""
    if workload == "decode":
        return median(line.read_bytes_per_s for line in limits) / (facts.layer_bytes + facts.head_bytes)
    peaks = [line.macs_per_s(facts.arithmetic) for line in limits]
    known = [peak for peak in peaks if peak is not None]
    return median(known) / facts.layer_weights if known and workload in {"prefill", "embed"} else None
