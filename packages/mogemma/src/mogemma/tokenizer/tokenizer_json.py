"""The vocabulary in a tokenizer.json (the `tokenizers` library's format), as scores.

Gemma's merges are sorted by the score of the piece they make, and every pair that makes a piece is among them, so the
place of a piece's first merge says the same as its SentencePiece score. Read this way, the same text has the same ids as
from tokenizer.model, also where the two libraries differ (a literal "▁" beside a space, runs of one letter).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checkpoint.files import read_small_file
from ..errors import ModelFormatError, UnsupportedModelError
from .pieces import Pieces
from .vocabulary import PieceTable, PieceType, is_turn_or_reserved

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE_BYTES = 128 << 20  # Gemma 3's has 33 MB
_MAX_VALUES = 1 << 22  # Gemma 3's has 1.4 million
_SPACE_TO_BLOCK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_SPLIT_AT_SPACE = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_MEDIA = re.compile(r"<(start|end)_of_(image|audio)>|<(image|audio|video)_soft_token>")


class Frame(NamedTuple):
    """Which marks a model expects around a text."""

    add_bos: bool
    add_eos: bool


def read_tokenizer_json(path: Path) -> tuple[PieceTable, Frame]:
    """Read the pieces, and what its post-processor puts around a text.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelFormatError: It is damaged.
        UnsupportedModelError: It describes another algorithm than Gemma's.
    """
    content = _parse(path)
    try:
        model = content["model"]
        _check_algorithm(content, model, path)
        return _table(model["vocab"], _ranks(model["merges"]), content["added_tokens"]), _frame(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UnsupportedModelError):
            raise
        raise ModelFormatError(
            f"{path} is damaged: a part is missing or of the wrong type ({error!r:.200})."
        ) from error


def _parse(path: Path) -> dict[str, Any]:
    data = read_small_file(path, _MAX_FILE_BYTES)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MAX_VALUES:
        raise ModelFormatError(f"{path} has more than {_MAX_VALUES} values, which no vocabulary needs.")
    try:
        content = json.loads(data, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} is no sound JSON. Download it again.") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path} is no JSON object. Download it again.")
    return content


def _integer(digits: str) -> int:
    if len(digits) > 20:  # int() of a very long number takes quadratic time
        raise ValueError("no token id has so many digits")
    return int(digits)


def _check_algorithm(content: dict[str, Any], model: dict[str, Any], path: Path) -> None:
    is_gemma_like = (
        model.get("type", "BPE") == "BPE"
        and model.get("byte_fallback") is True
        and not any(model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"))
        and content.get("normalizer") == _SPACE_TO_BLOCK
        and content.get("pre_tokenizer") in (None, _SPLIT_AT_SPACE)  # finds nothing: the spaces are gone by then
    )
    if not is_gemma_like:
        raise UnsupportedModelError(
            f"{path} describes no tokenizer of a Gemma (BPE with bytes as fallback, spaces written as ▁). "
            "Use the tokenizer files of a Gemma model."
        )


def _ranks(merges: list[Any]) -> dict[str, int]:
    """Each merged piece and the place of the first merge that makes it. Merges are pairs, or (older) "left right"."""
    if merges and isinstance(merges[0], str):
        merges = [merge.split(" ") for merge in merges]
    last_to_first = range(len(merges) - 1, -1, -1)
    return dict(zip(map("".join, reversed(merges)), last_to_first, strict=True))


def _table(vocab: dict[str, int], rank: dict[str, int], added: list[dict[str, Any]]) -> PieceTable:
    ids = vocab | {token["content"]: token["id"] for token in added}
    texts = sorted(ids, key=ids.__getitem__)
    if set(map(type, ids.values())) != {int} or list(map(ids.__getitem__, texts)) != list(range(len(texts))):
        raise ValueError("the ids are not 0, 1, 2 and so on")
    types = np.full(len(texts), PieceType.NORMAL, np.int32)
    for text in vocab.keys() - rank.keys():
        if len(text) > 1:
            types[ids[text]] = PieceType.UNUSED  # no merge makes it
    for byte in range(256):
        if (token := ids.get(f"<0x{byte:02X}>")) is not None:
            types[token] = PieceType.BYTE
    for entry in added:
        types[entry["id"]] = _type_of_added(entry["content"], entry["special"])
    scores = np.array([-rank.get(text, 0) for text in texts], np.float32)
    return PieceTable(Pieces.of(text.encode() for text in texts), scores, types)


def _type_of_added(text: str, is_special: bool) -> PieceType:
    """Added pieces are read in any text, or on demand; media placeholders as in GGUF and tokenizer.model."""
    if text == "<unk>":
        return PieceType.UNKNOWN
    is_control = (is_special and not _MEDIA.fullmatch(text)) or is_turn_or_reserved(text.encode())
    return PieceType.CONTROL if is_control else PieceType.USER_DEFINED


def _frame(content: dict[str, Any]) -> Frame:
    """Whether the post-processor's template has a special token before the text, and one behind it.

    Without a template it is BOS alone, for no Gemma reads well without.
    """
    template = (content.get("post_processor") or {}).get("single")
    if not template:
        return Frame(add_bos=True, add_eos=False)
    kinds = [next(iter(part), None) for part in template]
    return Frame(add_bos=kinds[:1] == ["SpecialToken"], add_eos=kinds[-1:] == ["SpecialToken"] and len(kinds) > 1)
