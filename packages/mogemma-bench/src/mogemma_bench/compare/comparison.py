"""The comparison: in every round each engine does the same work, one after the other, so that what disturbs meets all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mogemma import Roofline

from ..embedding import QUERY, TEXTS_PER_CALL
from ..engine import Facts, Precision
from ..errors import BenchError, OptionError
from ..library import facts_of
from ..machine import environment, load_average
from ..measure import rounds
from ..models import model_files
from ..report import Model
from ..rivals import Choice, open_mogemma
from ..roofline import roofline_apart
from ..text import text_of
from .python_rival import PythonRival
from .result import ComparisonResult, Work, work_of
from .rival import Job, Rival, Sample, Setting, Workload

_COLD_PROMPT = "The capital of France is"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, and for how long.

    Attributes:
        n_tokens: Of the prompt, or of each of the texts to embed.
        n_new_tokens: That a decode writes.
        precision: Of mogemma; the rivals have their own ways.
        timeout_s: The longest that an engine may take for one answer.
    """

    mode: Literal["generation", "embedding"]
    model: Path
    workloads: Sequence[Workload]
    threads: Sequence[int]
    n_rounds: int
    n_tokens: int
    n_new_tokens: int
    precision: Precision
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """What the machine could do at that time, and what the engines did, by workload and name."""

    limits: Roofline
    samples: dict[tuple[Workload, str], Sample]

    def __str__(self) -> str:
        return ", ".join(f"{what} {name} {sample}" for (what, name), sample in self.samples.items())


def measure_comparison(plan: Plan, choices: Sequence[Choice], tell: Callable[[str], None]) -> ComparisonResult:
    """Compare mogemma with the rivals chosen, with each number of threads.

    Args:
        tell: Progress, a line at a time.

    Raises:
        BenchError: An engine is missing, fails, hangs, or does other work than it was asked for.
    """
    load_before = load_average()
    tell(f"reading {plan.model}")
    files = model_files(plan.model)
    parts = [_measure(plan, choices, n_threads, tell) for n_threads in plan.threads]
    facts, versions = parts[-1].facts, parts[-1].versions
    here = environment(facts.cpu_level, facts.threads, load_before)
    return ComparisonResult(
        mode=f"compare {plan.mode}",
        rounds=plan.n_rounds,
        versions={**versions, "mogemma": here.mogemma},
        works=tuple(work for part in parts for work in part.works),
        environment=here,
        model=Model.of(files, facts, embeds=plan.mode == "embedding"),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """What one number of threads gave."""

    facts: Facts
    versions: dict[str, str]
    works: list[Work]


def _measure(plan: Plan, choices: Sequence[Choice], n_threads: int, tell: Callable[[str], None]) -> _Part:
    setting = Setting(plan.model, plan.mode, n_threads, plan.n_tokens + plan.n_new_tokens, plan.timeout_s)
    with _engines(plan, setting, choices, tell) as (ours, engines):
        facts = facts_of(ours.ask("info"))
        as_stored = _facts_as_stored(setting) if choices and plan.precision.keywords() else facts
        facts_by_name = {
            engine.name: facts
            if engine is ours
            else replace(as_stored, arithmetic=engine.arithmetic or as_stored.arithmetic)
            for engine in engines
        }
        taken = rounds(plan.n_rounds, lambda number: _round(plan, number, ours, engines, n_threads), tell)
        works = [_work(workload, facts_by_name, taken, engines) for workload in plan.workloads]
        return _Part(facts, {engine.name: engine.version for engine in engines}, works)


def _facts_as_stored(setting: Setting) -> Facts:
    """What the file is to an engine that was not told to bring its weights to another format: to a rival."""
    with closing(open_mogemma(setting, Precision())) as plain:
        return facts_of(plain.ask("info"))


@contextmanager
def _engines(
    plan: Plan, setting: Setting, choices: Sequence[Choice], tell: Callable[[str], None]
) -> Iterator[tuple[PythonRival, list[Rival]]]:
    """mogemma, and all engines with it as the first."""
    with ExitStack() as opened:
        threads = f"{setting.threads} thread{'s' * (setting.threads > 1)}"
        tell(f"{threads}: opening {', '.join(['mogemma', *(x.name for x in choices)])}")
        ours = opened.enter_context(closing(open_mogemma(setting, plan.precision)))
        engines: list[Rival] = [ours]
        for choice in choices:
            rival = opened.enter_context(closing(choice.open(setting)))
            if not rival.workloads.intersection(plan.workloads):
                raise OptionError(f"{rival.name} does none of this: {', '.join(plan.workloads)}.")
            engines.append(rival)
        yield ours, engines


def _round(plan: Plan, number: int, ours: PythonRival, engines: Sequence[Rival], n_threads: int) -> Round:
    samples = {}
    for workload in plan.workloads:
        job = _job(plan, workload, number, ours)
        for engine in engines:
            if workload in engine.workloads:
                samples[workload, engine.name] = _run(engine, job)
    return Round(roofline_apart(n_threads), samples)


def _job(plan: Plan, workload: Workload, number: int, ours: PythonRival) -> Job:
    """Each round has texts of its own, so that no cache of prompts helps; mogemma's tokenizer cuts them to length."""

    def count(text: str) -> int:
        n_tokens: int = ours.ask("count", text=text)
        return n_tokens

    if workload == "decode":
        return Job(workload, plan.n_new_tokens)
    if workload in {"cold-start", "query"}:
        text = QUERY if workload == "query" else _COLD_PROMPT
        return Job(workload, count(text), (text,))
    if workload == "prefill":
        return Job(workload, plan.n_tokens, (text_of(plan.n_tokens, count, first_word=number),))
    texts = [text_of(plan.n_tokens, count, first_word=number + n) for n in range(TEXTS_PER_CALL)]
    return Job(workload, TEXTS_PER_CALL * plan.n_tokens, tuple(texts))


def _run(engine: Rival, job: Job) -> Sample:
    """One sample, of the work that was asked for and nothing else."""
    sample = engine.run(job)
    if sample.tokens != job.tokens or sample.seconds <= 0:
        raise BenchError(
            f"{engine.name} was to do {job.workload} of {job.tokens} tokens and says it did {sample.tokens} in "
            f"{sample.seconds} s. Speeds of different work cannot be compared, so none are given."
        )
    return sample


def _work(workload: Workload, facts: Mapping[str, Facts], taken: Sequence[Round], engines: Sequence[Rival]) -> Work:
    able = [engine for engine in engines if workload in engine.workloads]
    samples = {engine.name: [one.samples[workload, engine.name] for one in taken] for engine in able}
    peaks = {engine.name: engine.peak_rss_bytes() for engine in able}
    return work_of(workload, facts, [one.limits for one in taken], samples, peaks)
