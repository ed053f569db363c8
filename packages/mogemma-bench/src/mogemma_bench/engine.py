"""What can be measured: the little that every workload asks of an engine, whichever library is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Precision:
    """Two options that a model of mogemma is loaded with; None leaves the choice to mogemma.

    Attributes:
        arithmetic: "int8", "bfloat16" or "float32".
        quantize: What float weights are brought to on loading: "q8_0", "q6_k", "q4_k", "q4_0" or "bf16".
    """

    arithmetic: str | None = None
    quantize: str | None = None

    def keywords(self) -> dict[str, str]:
        """Those that are set, by the names that the models have for them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a loaded model says about itself.

    Attributes:
        format: How most of its weights are stored in the file, such as "Q8_0".
        precision: What it was loaded with, mogemma's own choices filled in.
        context: Most tokens of one sequence.
        threads: Threads that compute.
        arithmetic: What most products are computed in, which follows from format and precision.
        cpu_level: Instructions that the kernels use, such as "x86-64-v3".
        layer_weights: Multiply-accumulates of a token, without attention and logits.
        layer_bytes: Weights that every forward pass reads, in the format they were brought to: all layers, and the dense
            heads of an embedding model.
        head_bytes: Weights that it reads besides to get logits: the output head, though it is the token embeddings too.
    """

    family: str
    format: str
    precision: Precision
    arithmetic: str
    context: int
    threads: int
    cpu_level: str
    layer_weights: int
    layer_bytes: int
    head_bytes: int


@dataclass(frozen=True, slots=True)
class Generated:
    """Counts and times of one request, by the engine's own clock.

    Attributes:
        prompt_tokens: BOS included.
        cached_tokens: Those that the engine still had from an earlier request, and did not compute.
        new_tokens: The first comes out of the prefill, each further one out of a decode step.
        prefill_seconds: Forward passes over the rest of the prompt.
        decode_seconds: From the first new token to the last.
        first_token_seconds: From the call, with tokenising and sampling, to the first new token.
    """

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    prefill_seconds: float
    decode_seconds: float
    first_token_seconds: float


class Engine(Protocol):
    """A loaded model."""

    @property
    def facts(self) -> Facts: ...

    def count_tokens(self, text: str) -> int:
        """Tokens that the engine makes of a text, with those it puts before and behind."""
        ...

    def close(self) -> None: ...


class Generator(Engine, Protocol):
    """A model that writes text."""

    def generate(self, prompt: str, n_new_tokens: int) -> Generated:
        """Continue a prompt greedily by exactly that many tokens, whatever they are: no stop token ends it."""
        ...


class Embedder(Engine, Protocol):
    """A model that turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> None:
        """Embed the texts as one call, to the end; the vectors are dropped."""
        ...
