"""What a model is loaded with, and how it chooses its words. None is unset; what is set wins in this order:

    keyword argument > config > environment variable > the model file's own defaults > Gemma's defaults

Loading options are the fields of GenerationConfig and EmbeddingConfig themselves, sampling options those of SamplingConfig.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args

import numpy as np

from .errors import ConfigError, ModelFormatError
from .options import (
    check_fields,
    checked,
    flag,
    known_options,
    model_name,
    number,
    one_of,
    path_or_text,
    text,
    texts,
    token_biases,
    whole,
)

Arithmetic = Literal["int8", "float32", "bfloat16"]
Quantize = Literal["q8_0", "q6_k", "q4_k", "q4_0", "bf16"]
CacheFormat = Literal["f16", "bf16", "f32"]
Dense = Literal["required", "skip"]

MAX_THREADS = 256
MAX_LOGPROBS = 1000

ENVIRONMENT = {"threads": "MOGEMMA_THREADS", "context": "MOGEMMA_CONTEXT"}
"""Loading options that an environment variable gives where neither keyword nor config does."""


class SamplingOptions(TypedDict, total=False):
    """The keyword arguments of `generate` and its kin, for editors and type checkers: the fields of SamplingConfig."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    repeat_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[int, float] | None
    stop: str | Sequence[str] | None
    seed: int | None
    logprobs: int | None


class ChatOptions(SamplingOptions, total=False):
    """The keyword arguments of `chat` and its kin: besides those of `generate`, what the conversation is written with.

    Attributes:
        tools: What the model may call: Python functions with annotations, or descriptions of functions as OpenAI takes them.
        thinking: Whether the model is to think before it answers, where its family can. Unset: as its template has it.
        strict: Refuse messages that the published template refuses, such as two of the user in a row.
        parse_special: Read `<end_of_turn>` and other control tokens in the texts of messages as such.
    """

    tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None
    thinking: bool | None
    strict: bool
    parse_special: bool


CHAT_OPTIONS = ("tools", "thinking", "strict", "parse_special")
"""Those of ChatOptions that are about the prompt, and not about how it is answered."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the next token is chosen and when a text ends; each call may override it.

    Attributes:
        max_tokens: Most tokens to generate. Unset: until the model ends its text or the context is full, because any other
            number would cut texts that nobody asked to be cut. 0 generates nothing.
        temperature: What logits are divided by; 0 always takes the likeliest token.
        top_k: Draw from so many of the likeliest tokens; 0: from all.
        top_p: Draw from the fewest tokens that together have this probability (arXiv:1904.09751); 1: from all.
        min_p: Leave out tokens less likely than this part of the likeliest one's probability (arXiv:2407.01082).
        repetition_penalty: Divides positive logits of tokens in the prompt or the text, multiplies negative ones
            (arXiv:1909.05858); 1 changes nothing. `repeat_penalty` is accepted as a keyword argument too.
        frequency_penalty: Taken from a token's logit for each time that the text has it; the prompt does not count.
        presence_penalty: Taken once from the logit of each token that the text has.
        logit_bias: Added to the logits of these token ids; -inf forbids a token.
        stop: The text ends before the first of these that it would contain.
        seed: 0 to 2**64 - 1. The same seed draws the same random numbers; unset: others each time.
        logprobs: Report each token's log-probability, and that of so many likeliest ones.
    """

    max_tokens: int | None = field(default=None, metadata=checked(whole(0)))
    temperature: float | None = field(default=None, metadata=checked(number(0, note="; 0 takes the likeliest token")))
    top_k: int | None = field(default=None, metadata=checked(whole(0, note="; 0 draws from all tokens")))
    top_p: float | None = field(
        default=None, metadata=checked(number(0, 1, above=True, note="; 1 draws from all tokens"))
    )
    min_p: float | None = field(default=None, metadata=checked(number(0, 1, note="; 0 leaves no token out")))
    repetition_penalty: float | None = field(
        default=None, metadata=checked(number(0.01, 100, note="; 1 changes nothing"))
    )
    frequency_penalty: float | None = field(default=None, metadata=checked(number(-2, 2, note="; 0 changes nothing")))
    presence_penalty: float | None = field(default=None, metadata=checked(number(-2, 2, note="; 0 changes nothing")))
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False, metadata=checked(token_biases))
    stop: str | Sequence[str] | None = field(default=None, metadata=checked(texts))
    seed: int | None = field(default=None, metadata=checked(whole(0, 2**64 - 1)))
    logprobs: int | None = field(
        default=None, metadata=checked(whole(0, MAX_LOGPROBS, note="; 0 reports the chosen token alone"))
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class GenerationConfig(SamplingConfig):
    """A model that generates, and the defaults of its calls: every field of SamplingConfig is one here too.

    Attributes:
        model: Path of a GGUF file or of a folder with safetensors, or a model's name; unset: gemma-3-270m-it.
        context: Tokens that a prompt and its answer may have together. Unset: as many as the model was made for, or, where the
            KV cache of so many takes over half of the available memory, the greatest power of two that does not.
        threads: Unset: as many as this process may use cores.
        arithmetic: "int8" multiplies quantised weights by 8-bit activations, and others in float32; "float32" is slower and
            exact to rounding; "bfloat16" is as "int8", but float weights are rounded to bfloat16, and so is what meets them.
        quantize: Bring float weights to this format while they are loaded: "q8_0", which int8 arithmetic is for, "q6_k",
            "q4_k" or "q4_0", which take less memory and cost quality, or "bf16". Unset: they stay what they are. Weights
            that are quantised in the file do so anyway.
        cache: Number format of the KV cache. Unset: "bf16", the fastest, or "f16" where the layers' products are in float32.
        chat_template: How messages become a prompt: "builtin" is what mogemma has for the family, "file" the Jinja2 template in
            the model's files, anything else the path of such a template, or one itself. Unset: "builtin", but where the
            file's template shows that the model was trained otherwise. Templates that are not built in need the extra
            `templates`.
    """

    model: str | Path | None = field(default=None, metadata=checked(model_name))
    context: int | None = field(default=None, metadata=checked(whole(1)))
    threads: int | None = field(default=None, metadata=checked(whole(1, MAX_THREADS)))
    arithmetic: Arithmetic = field(default="int8", metadata=checked(one_of(*get_args(Arithmetic))))
    quantize: Quantize | None = field(default=None, metadata=checked(one_of(*get_args(Quantize))))
    cache: CacheFormat | None = field(default=None, metadata=checked(one_of(*get_args(CacheFormat))))
    chat_template: str | Path | None = field(default=None, metadata=checked(path_or_text))


@dataclass(frozen=True)
class EmbeddingConfig:
    """A model that embeds.

    Attributes:
        model: Path of a sentence-transformers folder or of a GGUF file, or a model's name; unset: embeddinggemma-300m.
        dimensions: Keep so many numbers of each vector (arXiv:2205.13147); unset: all of them.
        threads: Unset: as many as this process may use cores.
        arithmetic: As in GenerationConfig.
        quantize: As in GenerationConfig.
        normalize: Vectors that are cut to fewer dimensions get length 1 again; full ones always have it.
        batch_tokens: Most tokens in one forward pass. A longer text runs alone. Fewer read the weights more often, more pass
            the caches of the processor and take more memory.
        prompt: Name of the model's own prompt that `embed` puts before each text, such as "query"; unset: none.
        dense: "required" refuses an EmbeddingGemma whose file lacks its dense heads. "skip" leaves them out, where they are
            too: the vectors are then mean hidden states, those of files that were converted without the heads.
    """

    model: str | Path | None = field(default=None, metadata=checked(model_name))
    dimensions: int | None = field(default=None, metadata=checked(whole(1)))
    threads: int | None = field(default=None, metadata=checked(whole(1, MAX_THREADS)))
    arithmetic: Arithmetic = field(default="int8", metadata=checked(one_of(*get_args(Arithmetic))))
    quantize: Quantize | None = field(default=None, metadata=checked(one_of(*get_args(Quantize))))
    normalize: bool = field(default=True, metadata=checked(flag))
    batch_tokens: int = field(default=512, metadata=checked(whole(1, 2**20)))
    prompt: str | None = field(default=None, metadata=checked(text))
    dense: Dense = field(default="required", metadata=checked(one_of(*get_args(Dense))))

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The choices of one generation, all of them made; the fields are those of SamplingConfig."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    stop: tuple[str, ...]
    seed: int
    logprobs: int | None


GEMMA = SamplingConfig(
    temperature=1.0,
    top_k=64,
    top_p=0.95,
    min_p=0.0,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
    logit_bias={},
    stop=(),
)
"""What Gemma's authors recommend, and nothing else that would change what the model says."""

_IN_FILES = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}
"""Sampling defaults as GGUF metadata and as generation_config.json spell them."""

_SUPPRESSED = ("tokenizer.ggml.suppress_tokens", "suppress_tokens")
"""Tokens that are never chosen, in the same two places."""

_SAMPLING = tuple(each.name for each in fields(SamplingConfig))

_Config = TypeVar("_Config", GenerationConfig, EmbeddingConfig)


def read_config(
    kind: type[_Config],
    model: object,
    options: Mapping[str, object],
    environment: Mapping[str, str] = os.environ,
) -> _Config:
    """The config of a model that is to be loaded.

    Args:
        kind: GenerationConfig or EmbeddingConfig.
        model: One of that kind, or what its `model` is to be.
        options: Keyword arguments: fields of the config, which they override.
        environment: Read for options that neither of them sets.

    Raises:
        ConfigError: An option is unknown, out of range, or `model` is of another kind.
    """
    names = [each.name for each in fields(kind)]
    given = known_options(options, names, why_not=dict.fromkeys(_SAMPLING, "It is for models that generate text."))
    if isinstance(model, kind):
        config = replace(model, **given)
    elif isinstance(model, (GenerationConfig, EmbeddingConfig)):
        raise ConfigError(f"This model takes a path, a name or a {kind.__name__}, not a {type(model).__name__}.")
    else:
        config = kind(**{"model": model, **given})
    found: dict[str, Any] = {
        name: _environment_number(variable, environment[variable])
        for name, variable in ENVIRONMENT.items()
        if name in names and getattr(config, name) is None and environment.get(variable, "").strip()
    }
    return replace(config, **found)


def _environment_number(variable: str, value: str) -> int:
    most = MAX_THREADS if variable == ENVIRONMENT["threads"] else None
    number_or_text = int(value) if value.strip().isdecimal() and len(value) < 20 else value
    checked_number: int = whole(1, most)(f"The environment variable {variable}", number_or_text)
    return checked_number


def file_sampling(
    metadata: Mapping[str, Any], source: str | Path = "The model file", *, vocab_size: int | None = None
) -> SamplingConfig:
    """The sampling defaults in a model file's own metadata.

    Args:
        metadata: Of a GGUF file (`general.sampling.*`), or a generation_config.json; other keys are passed over.
        source: Where it was found, for the message.
        vocab_size: Tokens that the model has; what is said of others is passed over.

    Raises:
        ModelFormatError: A default is out of range.
    """
    found: dict[str, Any] = {}
    for key, name in _IN_FILES.items():
        if (value := metadata.get(key)) is not None:
            found[name] = _as_written(value)
            try:
                SamplingConfig(**{name: found[name]})
            except ConfigError as error:
                raise ModelFormatError(
                    f"{source}: the default {key!r} cannot be used: {error} Correct the file."
                ) from error
    if metadata.get("do_sample") is False:
        found["temperature"] = 0.0
    suppressed = [token for token in _suppressed(metadata, source) if vocab_size is None or token < vocab_size]
    if suppressed:
        found["logit_bias"] = dict.fromkeys(suppressed, -math.inf)
    return SamplingConfig(**found)


def _suppressed(metadata: Mapping[str, Any], source: str | Path) -> list[int]:
    """Tokens that a model must never write, such as the media placeholders of Gemma 4."""
    for key in _SUPPRESSED:
        if (listed := metadata.get(key)) is not None:
            ids = listed.tolist() if isinstance(listed, np.ndarray) else listed
            if isinstance(ids, list) and all(type(one) is int and one >= 0 for one in ids):
                return ids
            raise ModelFormatError(f"{source}: {key!r} is no list of token ids, but {listed!r:.60}. Correct the file.")
    return []


def _as_written(value: object) -> object:
    """0.95 for 0.949999988079071, which is what a file makes of it that keeps 32 bits."""
    if not isinstance(value, (float, np.floating)):
        return value
    with np.errstate(over="ignore"):  # it is infinite then, and refused as that
        return float(str(np.float32(value)))


def resolve_sampling(
    options: Mapping[str, object],
    config: SamplingConfig,
    in_file: SamplingConfig,
) -> Sampling:
    """Make every choice of one generation: the first that sets an option decides it.

    Args:
        options: Keyword arguments of the call: fields of SamplingConfig.
        config: What the model was loaded with.
        in_file: From `file_sampling`.

    Raises:
        ConfigError: An option is unknown or out of range.
    """
    loading = {each.name for each in fields(GenerationConfig)}.difference(_SAMPLING)
    why_not = dict.fromkeys(loading, "It is chosen when the model is loaded, not for one call.")
    why_not |= dict.fromkeys(CHAT_OPTIONS, "It is for conversations: see chat().")
    call = SamplingConfig(**known_options(options, _SAMPLING, why_not=why_not))
    chosen: dict[str, Any] = {}
    for name in _SAMPLING:
        values = [getattr(source, name) for source in (call, config, in_file, GEMMA)]
        chosen[name] = next((value for value in values if value is not None), None)
    chosen["logit_bias"] = {**(in_file.logit_bias or {}), **chosen["logit_bias"]}  # of one token, the caller's
    if chosen["seed"] is None:
        chosen["seed"] = secrets.randbits(48)  # reported with the result, and short enough to type
    return Sampling(**chosen)
