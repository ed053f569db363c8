"""What can be compared: the little that is asked of every engine, mogemma among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Workload = Literal["prefill", "decode", "cold-start", "embed", "query"]

GENERATION: tuple[Workload, ...] = ("prefill", "decode", "cold-start")
EMBEDDING: tuple[Workload, ...] = ("embed", "query", "cold-start")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all engines of a comparison are opened with.

    Attributes:
        context: Tokens that a sequence must have room for.
        timeout_s: The longest that an engine may take for one answer.
    """

    model: Path
    mode: Literal["generation", "embedding"]
    threads: int
    context: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work, the same for all engines of a round.

    Attributes:
        workload: "prefill" reads one text up to the logits behind it. "decode" writes `tokens` greedily behind nothing but
            BOS. "embed" makes vectors of all texts in one call, "query" of one short text. "cold-start" is all from the
            start of a process to the first token, or the first vector, of a short text.
        tokens: What the work comes to, special tokens included.
    """

    workload: Workload
    tokens: int
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """`tokens` are those that the engine counted itself."""

    tokens: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.tokens / self.seconds:,.1f} tokens/s"


class Rival(Protocol):
    """An engine that is loaded, or a program that loads it for each job.

    Attributes:
        version: As it calls itself; empty until it has said so.
        arithmetic: "int8", "bfloat16" or "float32"; None: whatever mogemma, left to itself, uses for the same weights.
        workloads: What it can do in this setting.
    """

    name: str
    version: str
    arithmetic: str | None
    workloads: frozenset[Workload]

    def run(self, job: Job) -> Sample:
        """Do one job; raises BenchError where it fails."""
        ...

    def peak_rss_bytes(self) -> int:
        """The most resident memory so far of the process that works, without those of cold starts."""
        ...

    def close(self) -> None: ...
