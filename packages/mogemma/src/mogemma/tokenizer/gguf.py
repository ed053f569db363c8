"""The vocabulary in a GGUF file's `tokenizer.ggml.*` keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.strings import StringArray
from ..errors import ModelFormatError, TokenizerError, UnsupportedModelError
from .pieces import Pieces
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

_PREFIX = "tokenizer.ggml."


def read_gguf_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """Build the vocabulary of a SentencePiece model (`tokenizer.ggml.model` is "llama").

    Raises:
        TokenizerError: The file carries no tokenizer.
        UnsupportedModelError: It carries one that works otherwise.
        ModelFormatError: A part of it is missing or has the wrong type.
    """
    _check_algorithm(metadata)
    tokens = metadata.get(_PREFIX + "tokens")
    if not isinstance(tokens, StringArray):
        raise _missing("tokens", "an array of strings")
    return Vocabulary(
        pieces=_pieces(tokens),
        scores=_numbers(metadata, "scores", "f").astype(np.float32),
        types=_numbers(metadata, "token_type", "iu").astype(np.int32),
        bos_id=_id(metadata, "bos"),
        eos_id=_id(metadata, "eos"),
        pad_id=_id(metadata, "padding"),
        unk_id=_id(metadata, "unknown"),
        add_bos=_flag(metadata, "add_bos_token", default=True),
        add_eos=_flag(metadata, "add_eos_token", default=False),
    )


def _pieces(tokens: StringArray) -> Pieces:
    """The tokens as they lie in the file, each with a length of eight bytes before it.

    `to_bytes_list` would make 262,144 strings of them, which takes ten times as long as all the rest.
    """
    first, bounds = tokens._first, tokens._starts.astype(np.int64)  # noqa: SLF001  see above
    data = tokens._file.mapping[first : first + int(bounds[-1])]  # noqa: SLF001  see above
    return Pieces(data, bounds[:-1] + 8, bounds[1:])


def _check_algorithm(metadata: Mapping[str, Any]) -> None:
    algorithm = metadata.get(_PREFIX + "model")
    if algorithm is None:
        raise TokenizerError(
            "This GGUF file carries no tokenizer, so it takes and gives token ids only. For text, use a file with "
            "tokenizer.ggml.* keys, as converters write by default."
        )
    if algorithm != "llama":
        raise UnsupportedModelError(
            f"This GGUF file's tokenizer is of the kind {str(algorithm)[:40]!r}; this version reads 'llama' "
            "(SentencePiece, Gemma 1 to 3n and EmbeddingGemma). Pass token ids, or use one of those models."
        )
    if _flag(metadata, "add_space_prefix", default=False):
        raise UnsupportedModelError(
            "This GGUF file asks for a space before each text, which no Gemma was trained with. Use a newer conversion."
        )


def _numbers(metadata: Mapping[str, Any], name: str, kinds: str) -> npt.NDArray[Any]:
    values = metadata.get(_PREFIX + name)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
        raise _missing(name, "an array of numbers")
    return values


def _id(metadata: Mapping[str, Any], name: str) -> int | None:
    value = metadata.get(f"{_PREFIX}{name}_token_id")
    if value is not None and type(value) is not int:
        raise _missing(f"{name}_token_id", "a token id")
    return value


def _flag(metadata: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = metadata.get(_PREFIX + name, default)
    if not isinstance(value, bool):
        raise _missing(name, "true or false")
    return value


def _missing(name: str, what: str) -> ModelFormatError:
    return ModelFormatError(f"{_PREFIX}{name} should be {what}. The GGUF file is damaged: fetch or convert it again.")
