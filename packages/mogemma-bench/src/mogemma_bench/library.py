"""mogemma as an engine to measure, by its public names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mogemma import (
    ConfigError,
    ContextFullError,
    EmbeddingModel,
    MogemmaError,
    SyncGemmaModel,
)

from .engine import Facts, Generated, Precision
from .errors import BenchError, OptionError

_FLOATS = frozenset({"F32", "F16", "BF16"})
"""Formats of weights that are not quantised."""


class MogemmaGenerator:
    """A Gemma that writes text."""

    def __init__(self, path: Path, *, context: int | None, threads: int | None, precision: Precision) -> None:
        """`context` is what one request needs, None what the model was made for; None as `threads` leaves it to mogemma."""
        with _as_bench_errors():
            self._model = SyncGemmaModel(str(path), context=context, threads=threads, **precision.keywords())
        self.facts = facts_of(self._model.info.as_dict())

    def count_tokens(self, text: str) -> int:
        with _as_bench_errors():
            return len(self._model.tokenizer.encode(text))

    def generate(self, prompt: str, n_new_tokens: int) -> Generated:
        with _as_bench_errors():
            done = self._model.complete(prompt, max_tokens=n_new_tokens, temperature=0.0, stop_ids=())
        return Generated(
            prompt_tokens=done.usage.prompt_tokens,
            cached_tokens=done.usage.cached_tokens,
            new_tokens=done.usage.completion_tokens,
            prefill_seconds=done.timings.prefill_seconds,
            decode_seconds=done.timings.decode_seconds,
            first_token_seconds=done.timings.time_to_first_token,
        )

    def close(self) -> None:
        self._model.close()


class MogemmaEmbedder:
    """EmbeddingGemma, or any Gemma by the mean of its last hidden states."""

    def __init__(self, path: Path, *, threads: int | None, precision: Precision) -> None:
        """None as `threads` leaves the choice to mogemma."""
        with _as_bench_errors():
            self._model = EmbeddingModel(str(path), threads=threads, **precision.keywords())
        self.facts = facts_of(self._model.info.as_dict())

    def count_tokens(self, text: str) -> int:
        with _as_bench_errors():
            return len(self._model.tokenizer.encode(text))

    def embed(self, texts: Sequence[str]) -> None:
        with _as_bench_errors():
            self._model.embed(list(texts))

    def close(self) -> None:
        self._model.close()


def facts_of(info: Mapping[str, Any]) -> Facts:
    """Of a loaded model's `ModelInfo`, as a mapping."""
    same = ("family", "format", "context", "threads", "layer_weights", "layer_bytes", "head_bytes")
    precision = Precision(info["arithmetic"], info["quantize"])
    return Facts(
        precision=precision,
        arithmetic=_arithmetic(precision, info["format"]),
        cpu_level=info["level"],
        **{name: info[name] for name in same},
    )


def _arithmetic(asked: Precision, stored: str) -> str:
    """int8 is for quantised weights alone, bfloat16 for float ones alone, and float32 for whatever is there."""
    if asked.arithmetic == "float32":
        return "float32"
    if stored not in _FLOATS or asked.quantize not in {None, "bf16"}:
        return "int8"
    return "bfloat16" if asked.arithmetic == "bfloat16" else "float32"


@contextmanager
def _as_bench_errors() -> Iterator[None]:
    """mogemma's errors are whole sentences already; what is left is whether an option or the model is at fault."""
    try:
        yield
    except (ConfigError, ContextFullError) as error:
        raise OptionError(str(error)) from error
    except MogemmaError as error:
        raise BenchError(str(error)) from error
