"""`--mode generation`: how fast a model reads a prompt and writes behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .engine import Generator
from .machine import environment, load_average
from .measure import Spread, peak_rss_bytes, rounds
from .models import model_files
from .report import Bandwidth, Compute, FirstToken, GenerationResult, Model, Speed
from .roofline import roofline
from .text import text_of
from .workloads.decode import DecodeSample, decode
from .workloads.load import load
from .workloads.prefill import PrefillSample, prefill


@dataclass(frozen=True, slots=True)
class Round:
    prefill: PrefillSample
    decode: DecodeSample

    def __str__(self) -> str:
        return f"{self.prefill}, {self.decode}"


def measure_generation(
    path: Path,
    open_generator: Callable[[], Generator],
    *,
    n_rounds: int,
    n_prompt_tokens: int,
    n_new_tokens: int,
    tell: Callable[[str], None],
) -> GenerationResult:
    """Prefill a prompt; then, in a request of its own, decode behind the same prompt. Each round has another prompt.

    Args:
        path: What `open_generator` opens.
        n_prompt_tokens: BOS included.
        n_new_tokens: At least 2: the first comes out of the prefill.
        tell: Progress, a line at a time.

    Raises:
        BenchError: The model or the options do not let it be measured.
    """
    load_before = load_average()
    tell(f"reading {path}")
    files = model_files(path)
    generator, load_s = load(open_generator)
    with closing(generator):

        def work(number: int) -> Round:
            prompt = text_of(n_prompt_tokens, generator.count_tokens, first_word=number)
            return Round(
                prefill(generator, prompt, n_prompt_tokens),
                decode(generator, prompt, n_prompt_tokens, n_new_tokens),
            )

        samples = rounds(n_rounds, work, tell)
        facts, peak = generator.facts, peak_rss_bytes()  # the roofline would count as ours
    first_token = Spread.of(sample.prefill.first_token_seconds for sample in samples)
    decode_speed = Spread.of(sample.decode.tokens_per_second for sample in samples)
    prefill_speed = Spread.of(sample.prefill.tokens_per_second for sample in samples)
    read, limits = facts.layer_bytes + facts.head_bytes, roofline(facts.threads)
    return GenerationResult(
        mode="generation",
        rounds=n_rounds,
        load_s=load_s,
        peak_rss_bytes=peak,
        bandwidth=Bandwidth.of("decode", read, tokens=1, seconds=1 / decode_speed.median, roofline=limits),
        compute=Compute.of("prefill", facts, tokens_per_second=prefill_speed.median, roofline=limits),
        roofline=limits,
        environment=environment(facts.cpu_level, facts.threads, load_before),
        model=Model.of(files, facts, embeds=False),
        prefill=Speed(n_prompt_tokens, prefill_speed),
        decode=Speed(n_new_tokens - 1, decode_speed),
        time_to_first_token_s=first_token.median,
        first_token=FirstToken(first_token),
    )
