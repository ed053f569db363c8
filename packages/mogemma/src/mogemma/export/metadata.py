"""What a GGUF file says beside its tensors: the model's numbers, its tokenizer, its sampling defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint import StringArray
from ..config import file_sampling
from ..errors import UnsupportedModelError
from . import gemma3
from .vocabulary import tokenizer_metadata

if TYPE_CHECKING:
    from ..architectures import Architecture
    from ..architectures.spec import ModelSpec
    from ..checkpoint import Checkpoint

Describe = Callable[["ModelSpec", list[tuple[int, int]], Path], dict[str, Any]]

WRITERS: Mapping[str, Describe] = dict.fromkeys(gemma3.FAMILIES, gemma3.gguf_metadata)
"""By `ModelSpec.family`. A family that is to be written has a file here and a word in this table."""

FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q4_k": 14, "q6_k": 18, "bf16": 32}
"""`general.file_type` of each name, the number of llama.cpp's file type that is nearest."""

_QUANTIZATION_VERSION = 2
_OWN_KEYS = ("general.file_type", "general.quantization_version", "general.alignment")

_SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
"""Sampling defaults by their names in SamplingConfig, and in GGUF."""


def read_metadata(checkpoint: Checkpoint, architecture: Architecture, kind: str) -> dict[str, Any]:
    """All keys of the file.

    Args:
        checkpoint: Where they come from; those of a GGUF file stay as they are.
        architecture: Of that checkpoint.
        kind: A name in FILE_TYPES.

    Raises:
        UnsupportedModelError: The family cannot be written, or GGUF cannot say what this model is.
        ModelFormatError: A sampling default cannot be used.
        TokenizerError: The model has no tokenizer.
    """
    own = {"general.file_type": FILE_TYPES[kind], "general.quantization_version": _QUANTIZATION_VERSION}
    if checkpoint.kind == "gguf":
        kept = {key: _value(value) for key, value in checkpoint.metadata.items() if key not in _OWN_KEYS}
        return {**{key: value for key, value in kept.items() if not _is_empty(value)}, **own}
    spec = architecture.spec
    if spec.family not in WRITERS:
        raise UnsupportedModelError(
            f"{checkpoint.path}: {spec.family} models cannot be written as GGUF yet, but {', '.join(WRITERS)}. "
            "Use the model as it is, with quantize=."
        )
    dense = [(matrix["n_rows"], matrix["n_columns"]) for matrix in architecture.struct["dense"] or []]
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    generation = _generation_config(checkpoint) if spec.is_causal else {}
    listed = generation.get("eos_token_id")
    ends = listed if isinstance(listed, list) else [listed]
    return {
        **WRITERS[spec.family](spec, dense, checkpoint.path),
        "general.type": "model",
        "general.name": folder.resolve().name,
        **_sampling(generation, checkpoint.path, spec.vocab_size),
        **tokenizer_metadata(folder, spec.vocab_size, ends, add_eos=None if spec.is_causal else True),
        **own,
    }


def _value(value: Any) -> Any:
    return value.to_bytes_list() if isinstance(value, StringArray) else value


def _is_empty(value: Any) -> bool:
    """Whether it is an array that says nothing, for which the writer has no type."""
    return isinstance(value, (list, np.ndarray)) and len(value) == 0


def _generation_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    config = checkpoint.read_json("generation_config.json")
    return config if isinstance(config, dict) else {}


def _sampling(generation: Mapping[str, Any], source: Path, vocab_size: int) -> dict[str, Any]:
    """What a generation_config.json says of sampling, as loading reads it."""
    config = file_sampling(generation, source, vocab_size=vocab_size)
    values = {key: getattr(config, name) for name, key in _SAMPLING.items()}
    keys: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    if config.logit_bias:
        keys["tokenizer.ggml.suppress_tokens"] = np.array(sorted(config.logit_bias), np.int32)
    return keys
