"""A result as one JSON document, for programs, and as a table, for people.

The names of the fields are what others read: they stay, and new ones may come beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, Literal

from mogemma import Roofline

from .engine import Facts
from .machine import Environment
from .measure import Spread
from .models import ModelFiles
from .output import write_machine, write_rows

Row = tuple[str, str, str]
"""What was measured, the figure, and its spread or a remark."""


@dataclass(frozen=True, slots=True)
class Speed:
    """`tokens` is how many each sample is about."""

    tokens: int
    tokens_per_second: Spread


@dataclass(frozen=True, slots=True)
class FirstToken:
    seconds: Spread


@dataclass(frozen=True, slots=True)
class Embedding:
    """`texts` in one call with `tokens` in all; a query is one short text alone."""

    texts: int
    tokens: int
    texts_per_second: Spread
    tokens_per_second: Spread
    query_tokens: int
    query_seconds: Spread


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """What decode, or embedding one query, reads; and what the machine could have read in that time.

    Attributes:
        bytes_per_token: Weights that a forward pass reads by its tokens (1 in decode); the KV cache is not counted.
        used_bytes_per_s: Of these, at the median speed.
        machine_bytes_per_s: Measured after the rounds, with as many threads: `Roofline.read_bytes_per_s`.
        share: Used by what the machine has; the rest of the time went into something else than reading weights.
    """

    workload: Literal["decode", "query"]
    bytes_per_token: int
    used_bytes_per_s: float
    machine_bytes_per_s: float
    share: float

    @classmethod
    def of(
        cls, workload: Literal["decode", "query"], n_bytes: int, *, tokens: int, seconds: float, roofline: Roofline
    ) -> Bandwidth:
        """A forward pass over `tokens` tokens reads `n_bytes` in `seconds`."""
        used, machine = n_bytes / seconds, roofline.read_bytes_per_s
        return cls(workload, round(n_bytes / tokens), used, machine, used / machine)


@dataclass(frozen=True, slots=True)
class Compute:
    """What a prompt, or a batch of texts, multiplies; and what the machine could have multiplied in that time.

    Attributes:
        arithmetic: "int8", "bfloat16" or "float32".
        macs_per_token: Multiply-accumulates with weights: the layers. Attention is not counted, and of a prompt only the
            last token goes through the head.
        used_macs_per_s: Of these, at the median speed.
        machine_macs_per_s: The peak of that arithmetic, measured after the rounds with as many threads; None where the
            CPU level has no instruction for it, and then there is no share.
    """

    workload: Literal["prefill", "embedding"]
    arithmetic: str
    macs_per_token: int
    used_macs_per_s: float
    machine_macs_per_s: float | None
    share: float | None

    @classmethod
    def of(
        cls, workload: Literal["prefill", "embedding"], facts: Facts, *, tokens_per_second: float, roofline: Roofline
    ) -> Compute:
        used, machine = facts.layer_weights * tokens_per_second, roofline.macs_per_s(facts.arithmetic)
        return cls(workload, facts.arithmetic, facts.layer_weights, used, machine, used / machine if machine else None)


@dataclass(frozen=True, slots=True)
class Model:
    """The weights that ran.

    Attributes:
        name, sha256, bytes, files: As in `ModelFiles`.
        format: How most of them are stored in the file.
        arithmetic, quantize: As it was loaded by mogemma; `compute.arithmetic` is what that comes to with this format.
        vectors: Where its embeddings come from; None when it generates.
    """

    name: str
    sha256: str
    bytes: int
    files: dict[str, str]
    family: str
    format: str
    arithmetic: str | None
    quantize: str | None
    vectors: Literal["embedding model", "pooled hidden states"] | None = None

    @classmethod
    def of(cls, files: ModelFiles, facts: Facts, *, embeds: bool) -> Model:
        vectors: Literal["embedding model", "pooled hidden states"] = (
            "embedding model" if facts.family.startswith("embeddinggemma") else "pooled hidden states"
        )
        return cls(
            **asdict(files),
            family=facts.family,
            format=facts.format,
            arithmetic=facts.precision.arithmetic,
            quantize=facts.precision.quantize,
            vectors=vectors if embeds else None,
        )

    def loaded(self) -> str:
        """Its name, and what its weights were brought to."""
        return f"{self.name} as {self.quantize}" if self.quantize else self.name


@dataclass(frozen=True, kw_only=True)
class Result:
    """What every mode reports. Each round's sample counts; the one before them, to warm up, does not.

    Attributes:
        load_s: From the path to a model that is ready, files in the page cache.
        peak_rss_bytes: Of the whole process up to the end of the rounds, mapped pages of the model file included.
    """

    mode: str
    rounds: int
    load_s: float
    peak_rss_bytes: int
    bandwidth: Bandwidth
    compute: Compute
    roofline: Roofline
    environment: Environment
    model: Model

    def rows(self) -> Iterator[Row]:
        yield "load", _duration(self.load_s), ""
        yield "peak resident memory", _size(self.peak_rss_bytes), f"weights: {_size(self.model.bytes)}"
        bandwidth = self.bandwidth
        yield (
            f"weights read in {bandwidth.workload}",
            f"{bandwidth.used_bytes_per_s / 1e9:.1f} GB/s",
            f"{bandwidth.share:.0%} of the machine's {bandwidth.machine_bytes_per_s / 1e9:.1f}",
        )
        compute = self.compute
        machine = compute.machine_macs_per_s
        yield (
            f"{compute.arithmetic} products in {compute.workload}",
            f"{compute.used_macs_per_s / 1e9:,.1f} GMAC/s",
            f"{compute.share:.0%} of the machine's {machine / 1e9:,.0f}"
            if machine
            else "the machine's peak is unknown",
        )


@dataclass(frozen=True, kw_only=True)
class GenerationResult(Result):
    """`decode.tokens` are behind the prompt and the first new token; `time_to_first_token_s` is a median."""

    prefill: Speed
    decode: Speed
    time_to_first_token_s: float
    first_token: FirstToken

    def rows(self) -> Iterator[Row]:
        for name, speed in (("prefill", self.prefill), ("decode", self.decode)):
            yield f"{name}, {speed.tokens} tokens", *_rate(speed.tokens_per_second, "tokens/s")
        yield "time to first token", *_durations(self.first_token.seconds)
        yield from super().rows()


@dataclass(frozen=True, kw_only=True)
class EmbeddingResult(Result):
    embedding: Embedding

    def rows(self) -> Iterator[Row]:
        result = self.embedding
        what = f"embed {result.texts} texts, {result.tokens} tokens"
        yield what, *_rate(result.tokens_per_second, "tokens/s")
        yield "", *_rate(result.texts_per_second, "texts/s")
        yield f"embed a query of {result.query_tokens} tokens", *_durations(result.query_seconds)
        yield from super().rows()


def write_table(result: Result, file: IO[str]) -> None:
    write_rows(_title(result), ["work", f"median of {result.rounds}", "spread"], result.rows(), file)
    write_machine(result.environment, file)


def _title(result: Result) -> str:
    model = result.model
    vectors = f", {model.vectors}" if model.vectors else ""
    return f"{model.loaded()} ({model.family}, {model.format}{vectors})"


def _rate(spread: Spread, unit: str) -> tuple[str, str]:
    return f"{spread.median:,.1f} {unit}", f"{spread.min:,.1f} to {spread.max:,.1f}"


def _durations(spread: Spread) -> tuple[str, str]:
    return _duration(spread.median), f"{_duration(spread.min)} to {_duration(spread.max)}"


def _duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:,.1f} ms"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:,.1f} MB"
