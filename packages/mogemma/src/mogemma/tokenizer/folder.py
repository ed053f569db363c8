"""The vocabulary of a model folder: tokenizer.model, or else tokenizer.json, with tokenizer_config.json beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.bounded_json import read_json_object
from ..checkpoint.files import is_file
from ..errors import ModelFormatError, TokenizerError
from .sentencepiece import read_tokenizer_model
from .tokenizer_json import Frame, read_tokenizer_json
from .vocabulary import PieceTable, PieceType, Vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def read_folder_vocabulary(folder: Path, *, add_eos: bool | None = None) -> Vocabulary:
    """Build the vocabulary from the tokenizer files of a folder; tokenizer.model is read first, being the smaller.

    Args:
        add_eos: Whether the model expects EOS behind a text; None reads it from the files.

    Raises:
        TokenizerError: The folder has no tokenizer.
        ModelFormatError: A file is damaged.
        UnsupportedModelError: The tokenizer is not that of a Gemma.
    """
    config_path = folder / "tokenizer_config.json"
    config = read_json_object(config_path) if is_file(config_path) else {}
    frame = Frame(add_bos=True, add_eos=False)
    table = read_tokenizer_model(folder / "tokenizer.model") if is_file(folder / "tokenizer.model") else None
    if is_file(folder / "tokenizer.json") and (table is None or _has_other_names(config, table)):
        table, frame = read_tokenizer_json(folder / "tokenizer.json")
    if table is None:
        raise TokenizerError(
            f"{folder} has neither tokenizer.model nor tokenizer.json, so the model takes and gives token ids only. "
            "For text, copy one of them there from the model's repository."
        )
    marks = table.pieces.ids_by_text(np.flatnonzero(table.types != PieceType.NORMAL))
    return Vocabulary(
        *table,
        bos_id=_id(marks, config, "bos"),
        eos_id=_id(marks, config, "eos"),
        pad_id=_id(marks, config, "pad"),
        unk_id=_id(marks, config, "unk"),
        add_bos=_flag(config, "add_bos_token", frame.add_bos),
        add_eos=_flag(config, "add_eos_token", frame.add_eos) if add_eos is None else add_eos,
    )


def _has_other_names(config: dict[str, Any], table: PieceTable) -> bool:
    """Whether a derived model has given names to pieces that tokenizer.model calls unused, as FunctionGemma's markers."""
    added = config.get("added_tokens_decoder")
    for token, entry in added.items() if isinstance(added, dict) else ():
        name = entry.get("content") if isinstance(entry, dict) else None
        token_id = int(token) if token.isdecimal() and len(token) < 10 else len(table.pieces)
        if isinstance(name, str) and token_id < len(table.pieces):
            piece = table.pieces[token_id]
            if piece != name.encode("utf-8", "replace") and piece.startswith(b"<unused"):
                return True
    return False


def _id(marks: dict[bytes, int], config: dict[str, Any], name: str) -> int | None:
    """The id of the piece that tokenizer_config.json calls `bos_token` and so on; without a word there, `<bos>`."""
    token = config.get(f"{name}_token")
    if token is None:
        return marks.get(f"<{name}>".encode())
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        raise ModelFormatError(f"{name}_token in tokenizer_config.json is no text. Download the file again.")
    return marks.get(content.encode("utf-8", "replace"))


def _flag(config: dict[str, Any], name: str, default: bool) -> bool:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelFormatError(f"{name} in tokenizer_config.json is neither true nor false. Download the file again.")
    return value
