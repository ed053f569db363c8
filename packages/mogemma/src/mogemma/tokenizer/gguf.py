"""The vocabulary in a GGUF file's `tokenizer.ggml.*` keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.strings import StringArray
from ..errors import ModelFormatError, TokenizerError, UnsupportedModelError
from .pieces import Pieces
from .vocabulary import PieceTable, PieceType, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

_PREFIX = "tokenizer.ggml."
_MAX_MERGES = 1 << 22  # Gemma 4 has 514,906; up to 1 << 24 a float32 score holds each rank


def read_gguf_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """Build the vocabulary of a SentencePiece model: "llama" gives each piece a score, "gemma4" has a list of merges.

    Raises:
        TokenizerError: The file carries no tokenizer.
        UnsupportedModelError: It carries one that works otherwise.
        ModelFormatError: A part of it is missing or has the wrong type.
    """
    has_merges = _check_algorithm(metadata) == "gemma4"
    return Vocabulary(
        *(_merged_table(metadata) if has_merges else _scored_table(metadata)),
        bos_id=_id(metadata, "bos"),
        eos_id=_id(metadata, "eos"),
        pad_id=_id(metadata, "padding"),
        unk_id=_id(metadata, "unknown"),
        # Some files of Gemma 4 say false, from a time when BOS was left to the chat template; it reads no text well without.
        add_bos=_flag(metadata, "add_bos_token", default=True) or has_merges,
        add_eos=_flag(metadata, "add_eos_token", default=False),
    )


def _scored_table(metadata: Mapping[str, Any]) -> PieceTable:
    scores = _numbers(metadata, "scores", "f").astype(np.float32)
    return PieceTable(_pieces(_strings(metadata, "tokens")), scores, _types(metadata))


def _merged_table(metadata: Mapping[str, Any]) -> PieceTable:
    """The pieces of a file with merges, whose scores mean nothing: the place of its first merge is a piece's score.

    It is so for the reason that tokenizer_json.py gives; its vocabulary is the same one.
    """
    tokens, types = _strings(metadata, "tokens"), _types(metadata)
    if types.shape != (len(tokens),):
        raise _missing("token_type", f"an array of {len(tokens)} numbers, one for each token")
    rank = _ranks(_strings(metadata, "merges"))
    texts = tokens.to_bytes_list()
    scores = np.fromiter((-rank.get(text, 0) for text in texts), np.float32, len(texts))
    unmerged = (token for token in np.flatnonzero(types == PieceType.NORMAL).tolist() if texts[token] not in rank)
    types[[token for token in unmerged if len(texts[token].decode("utf-8", "replace")) > 1]] = PieceType.UNUSED
    return PieceTable(_pieces(tokens), scores, types)


def _ranks(merges: StringArray) -> dict[bytes, int]:
    """Each merged piece and the place of the first merge that makes it; a merge is "left right"."""
    if len(merges) > _MAX_MERGES:
        raise ModelFormatError(
            f"{_PREFIX}merges has {len(merges)} merges; at most {_MAX_MERGES} are read. Fetch the GGUF file again."
        )
    pairs = merges.to_bytes_list()
    joined = [pair.replace(b" ", b"") for pair in pairs]
    if any(len(pair) != len(text) + 1 for pair, text in zip(pairs, joined, strict=True)):
        raise _missing("merges", "pairs of pieces with one space between")
    return dict(zip(reversed(joined), range(len(joined) - 1, -1, -1), strict=True))


def _pieces(tokens: StringArray) -> Pieces:
    """The tokens as they lie in the file, each with a length of eight bytes before it.

    `to_bytes_list` would make 262,144 strings of them, which takes ten times as long as all the rest.
    """
    first, bounds = tokens._first, tokens._starts.astype(np.int64)  # noqa: SLF001  see above
    data = tokens._file.mapping[first : first + int(bounds[-1])]  # noqa: SLF001  see above
    return Pieces(data, bounds[:-1] + 8, bounds[1:])


def _check_algorithm(metadata: Mapping[str, Any]) -> str:
    algorithm = metadata.get(_PREFIX + "model")
    if algorithm is None:
        raise TokenizerError(
            "This GGUF file carries no tokenizer, so it takes and gives token ids only. For text, use a file with "
            "tokenizer.ggml.* keys, as converters write by default."
        )
    if algorithm not in ("llama", "gemma4"):
        raise UnsupportedModelError(
            f"This GGUF file's tokenizer is of the kind {str(algorithm)[:40]!r}; Gemma's are 'llama' (Gemma 1 to 3n and "
            "EmbeddingGemma) and 'gemma4'. Pass token ids, or use a GGUF file of a Gemma model."
        )
    if _flag(metadata, "add_space_prefix", default=False):
        raise UnsupportedModelError(
            "This GGUF file asks for a space before each text, which no Gemma was trained with. Use a newer conversion."
        )
    return str(algorithm)


def _strings(metadata: Mapping[str, Any], name: str) -> StringArray:
    values = metadata.get(_PREFIX + name)
    if not isinstance(values, StringArray):
        raise _missing(name, "an array of strings")
    return values


def _types(metadata: Mapping[str, Any]) -> npt.NDArray[np.int32]:
    return _numbers(metadata, "token_type", "iu").astype(np.int32)


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
