"""`bench growth`: what longer prompts cost. Products grow with the tokens, global attention with their square."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mogemma import Roofline

from .engine import Generator
from .errors import OptionError
from .machine import Environment, environment, load_average
from .measure import Spread, peak_rss_bytes, rounds
from .models import model_files
from .report import Model, Speed
from .roofline import roofline
from .text import text_of
from .workloads.load import load
from .workloads.request import request

LENGTHS = (128, 512, 2048, 8192, 32768)


@dataclass(frozen=True, slots=True)
class Length:
    """A prompt of so many tokens, and the tokens written behind it."""

    tokens: int
    prefill_seconds: Spread
    prefill: Speed
    decode: Speed


@dataclass(frozen=True, slots=True)
class GrowthResult:
    """`peak_rss_bytes` is of the whole process, with a KV cache for the longest prompt."""

    mode: str
    rounds: int
    lengths: tuple[Length, ...]
    peak_rss_bytes: int
    roofline: Roofline
    environment: Environment
    model: Model

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Lines of a table: tokens, time, speed of prefill, and of decode behind it, compared with the shortest prompt."""
        first = self.lengths[0]
        for one in self.lengths:
            prefill, decode = one.prefill.tokens_per_second, one.decode.tokens_per_second
            yield (
                f"{one.tokens:,}",
                f"{one.prefill_seconds.median:,.3f} s",
                f"{prefill.median:,.1f} tokens/s",
                f"{prefill.median / first.prefill.tokens_per_second.median:.0%}",
                f"{decode.median:,.1f} tokens/s",
                f"{decode.median / first.decode.tokens_per_second.median:.0%}",
            )


COLUMNS = ("prompt", "prefill", "speed", "of the first", "decode behind it", "of the first")


@dataclass(frozen=True, slots=True)
class _Sample:
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    prefill_seconds: float

    def __str__(self) -> str:
        return f"prefill {self.prefill_tokens_per_second:,.1f}, decode {self.decode_tokens_per_second:,.1f} tokens/s"


def measure_growth(
    path: Path,
    open_generator: Callable[[], Generator],
    *,
    lengths: Sequence[int],
    n_rounds: int,
    n_new_tokens: int,
    tell: Callable[[str], None],
) -> GrowthResult:
    """Prefill prompts of several lengths, and decode behind each.

    Args:
        path: What `open_generator` opens.
        lengths: Of prompts, in tokens; what is longer than the model holds is cut to that.
        n_new_tokens: Decoded behind each prompt, at least 1; the one that comes out of the prefill is not counted.
        tell: Progress, a line at a time.

    Raises:
        BenchError: The model or the options do not let it be measured.
    """
    load_before = load_average()
    tell(f"reading {path}")
    files = model_files(path)
    generator, _ = load(open_generator)
    with closing(generator):
        facts = generator.facts
        most = facts.context - n_new_tokens - 1
        if most < 1:
            raise OptionError(f"This model holds {facts.context} tokens: too few for {n_new_tokens} behind a prompt.")
        fitting = sorted({min(length, most) for length in lengths})
        measured = tuple(_measure(generator, length, n_rounds, n_new_tokens, tell) for length in fitting)
        peak = peak_rss_bytes()
    return GrowthResult(
        mode="growth",
        rounds=n_rounds,
        lengths=measured,
        peak_rss_bytes=peak,
        roofline=roofline(facts.threads),
        environment=environment(facts.cpu_level, facts.threads, load_before),
        model=Model.of(files, facts, embeds=False),
    )


def _measure(
    generator: Generator, length: int, n_rounds: int, n_new_tokens: int, tell: Callable[[str], None]
) -> Length:
    def work(number: int) -> _Sample:
        prompt = text_of(length, generator.count_tokens, first_word=number)
        done = request(generator, prompt, length, n_new_tokens + 1)
        computed = done.prompt_tokens - done.cached_tokens
        return _Sample(
            prefill_tokens_per_second=computed / done.prefill_seconds,
            decode_tokens_per_second=n_new_tokens / done.decode_seconds,
            prefill_seconds=done.prefill_seconds,
        )

    samples = rounds(n_rounds, work, lambda line: tell(f"{length} tokens, {line}"))
    return Length(
        tokens=length,
        prefill_seconds=Spread.of(sample.prefill_seconds for sample in samples),
        prefill=Speed(length, Spread.of(sample.prefill_tokens_per_second for sample in samples)),
        decode=Speed(n_new_tokens, Spread.of(sample.decode_tokens_per_second for sample in samples)),
    )
