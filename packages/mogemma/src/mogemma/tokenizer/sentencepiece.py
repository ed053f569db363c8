"""The vocabulary in a tokenizer.model: a SentencePiece model as a protocol buffer.

Only what Gemma's algorithm needs is read (sentencepiece_model.proto: ModelProto.pieces = 1, trainer_spec = 2,
normalizer_spec = 3). The file comes from strangers: each length is compared with the bytes that are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..checkpoint.files import read_small_file
from ..errors import ModelFormatError, UnsupportedModelError
from .pieces import Pieces
from .vocabulary import PieceTable, PieceType, is_turn_or_reserved

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE_BYTES = 64 << 20  # Gemma 3's has 4.7 MB
_MAX_PIECES = 1 << 20

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; a tag is field number << 3 | wire type
_PIECE, _TRAINER, _NORMALIZER = 1 << 3 | _BYTES, 2 << 3 | _BYTES, 3 << 3 | _BYTES
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1 << 3 | _BYTES, 2 << 3 | _FIXED32, 3 << 3 | _VARINT
_MODEL_TYPE, _SPACE_IS_SUFFIX = 3 << 3 | _VARINT, 24 << 3 | _VARINT
_CHARACTER_MAP, _DUMMY_PREFIX, _REMOVE_SPACES, _ESCAPE_SPACES = (
    2 << 3 | _BYTES, 3 << 3 | _VARINT, 4 << 3 | _VARINT, 5 << 3 | _VARINT,
)  # fmt: skip
_MODEL_TYPE_BPE = 2
_NORMAL, _LAST_TYPE = int(PieceType.NORMAL), int(max(PieceType))

# What counts where a field is absent, by proto2's rules.
_PIECE_DEFAULTS: dict[int, int | bytes] = {_PIECE_TEXT: b"", _PIECE_SCORE: bytes(4), _PIECE_TYPE: _NORMAL}
_TRAINER_DEFAULTS: dict[int, int | bytes] = {_MODEL_TYPE: 1, _SPACE_IS_SUFFIX: 0}
_NORMALIZER_DEFAULTS: dict[int, int | bytes] = {
    _CHARACTER_MAP: b"",
    _DUMMY_PREFIX: 1,
    _REMOVE_SPACES: 1,
    _ESCAPE_SPACES: 1,
}


def read_tokenizer_model(path: Path) -> PieceTable:
    """Read the pieces of a SentencePiece BPE model that leaves spaces and letters as they are.

    Turn markers and reserved pieces, user-defined in such files, come back as control pieces.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelFormatError: It is damaged, or no SentencePiece model.
        UnsupportedModelError: It changes text in ways no Gemma model does, or is no BPE model.
    """
    data = read_small_file(path, _MAX_FILE_BYTES)
    specs: dict[int, bytes] = {_TRAINER: b"", _NORMALIZER: b""}
    try:
        table, at = _read_usual_pieces(data)
        others: list[tuple[bytes, bytes, int]] = []
        while at < len(data):
            at = _read_field(data, at, others, specs)
        _check_algorithm(
            _fields(specs[_TRAINER], _TRAINER_DEFAULTS), _fields(specs[_NORMALIZER], _NORMALIZER_DEFAULTS), path
        )
    except (IndexError, ValueError) as error:  # UnsupportedModelError is one too
        if isinstance(error, UnsupportedModelError):
            raise
        raise ModelFormatError(f"{path} is no sound SentencePiece model. Download it again.") from error
    table = _joined(data, table, others)
    for token in np.flatnonzero(table.types == PieceType.USER_DEFINED).tolist():
        if is_turn_or_reserved(table.pieces[token]):
            table.types[token] = PieceType.CONTROL
    return table


def _read_usual_pieces(data: bytes) -> tuple[PieceTable, int]:
    """The pieces at the start of the file that have the usual form, and the position behind them.

    The usual form is text and score, perhaps a type, each short enough for a length of one byte. All 262,144 pieces of
    Gemma 3 have it, and so they take 50 ms; field by field it would be 500.
    """
    chain: list[int] = []
    at, last = 0, len(data) - 300  # lengths of one byte then never point outside the file
    while at < last and data[at] == _PIECE:
        chain.append(at)
        at += 2 + data[at + 1]
        if len(chain) > _MAX_PIECES:
            raise ValueError("too many pieces")
    octets = np.frombuffer(data, np.uint8)
    start = np.array(chain, np.int64)
    stop = start + 2 + octets[start + 1]
    text_end = start + 4 + octets[start + 3]
    has_type = stop - text_end == 7
    types = np.where(has_type, octets[stop - 1], _NORMAL).astype(np.int32)
    is_usual = (octets[start + 1] < 128) & (octets[start + 2] == _PIECE_TEXT) & (octets[text_end] == _PIECE_SCORE)
    is_usual &= (stop - text_end == 5) | has_type & (octets[stop - 2] == _PIECE_TYPE) & (types <= _LAST_TYPE)
    n_usual = len(start) if is_usual.all() else int(is_usual.argmin())
    scores = octets[text_end[:n_usual, None] + np.arange(1, 5)].copy().view("<f4").reshape(-1)
    pieces = Pieces(data, start[:n_usual] + 4, text_end[:n_usual])
    return PieceTable(pieces, scores, types[:n_usual]), int(stop[n_usual - 1]) if n_usual else 0


def _joined(data: bytes, table: PieceTable, others: list[tuple[bytes, bytes, int]]) -> PieceTable:
    """The table with the pieces that were read field by field behind it."""
    if not others:
        return table
    tail = Pieces.of(text for text, _, _ in others)
    pieces = Pieces(
        data + tail.data,
        np.concatenate([table.pieces.starts, tail.starts + len(data)]),
        np.concatenate([table.pieces.ends, tail.ends + len(data)]),
    )
    scores = np.frombuffer(b"".join(score for _, score, _ in others), "<f4")
    types = np.array([kind for _, _, kind in others], np.int32)
    return PieceTable(pieces, np.concatenate([table.scores, scores]), np.concatenate([table.types, types]))


def _read_field(data: bytes, at: int, pieces: list[tuple[bytes, bytes, int]], specs: dict[int, bytes]) -> int:
    """Read any field of the file into where it belongs, and return the position behind it."""
    tag, at = _varint(data, at)
    value, at = _value(data, at, tag)
    if tag == _PIECE and isinstance(value, bytes):
        text, score, kind = _fields(value, _PIECE_DEFAULTS).values()
        if len(pieces) >= _MAX_PIECES or not (
            isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int) and kind <= _LAST_TYPE
        ):
            raise ValueError("too many pieces, or one of unknown type")
        pieces.append((text, score, kind))
    elif tag in specs and isinstance(value, bytes):
        specs[tag] = value
    return at


def _check_algorithm(trainer: dict[int, int | bytes], normalizer: dict[int, int | bytes], path: Path) -> None:
    """Refuse models whose text would have to be treated otherwise than Gemma's."""
    expected = (
        (trainer[_MODEL_TYPE] == _MODEL_TYPE_BPE, "is no BPE model"),
        (not trainer[_SPACE_IS_SUFFIX], "puts spaces at the end of words"),
        (not normalizer[_CHARACTER_MAP], "rewrites characters"),
        (not normalizer[_DUMMY_PREFIX], "puts a space before each text"),
        (not normalizer[_REMOVE_SPACES], "removes spaces"),
        (bool(normalizer[_ESCAPE_SPACES]), "does not write spaces as ▁"),
    )
    for is_gemma_like, difference in expected:
        if not is_gemma_like:
            raise UnsupportedModelError(f"{path} {difference}; no Gemma's does. Use the tokenizer of a Gemma model.")


def _fields(message: bytes, defaults: dict[int, int | bytes]) -> dict[int, int | bytes]:
    """Tag to value, in the order of `defaults`; of a field that is there twice, the last counts."""
    found = defaults.copy()
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _value(message, at, tag)
        if tag in found:
            found[tag] = value
    return found


def _value(data: bytes, at: int, tag: int) -> tuple[int | bytes, int]:
    wire_type = tag & 7
    if wire_type == _VARINT:
        return _varint(data, at)
    if wire_type == _BYTES:
        return _bytes(data, at)
    if wire_type in (_FIXED32, _FIXED64):
        return _take(data, at, 4 if wire_type == _FIXED32 else 8)
    raise ValueError(f"wire type {wire_type} is not in use")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, low bits first, and the position behind it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number has more than ten bytes")


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    n_bytes, at = _varint(data, at)
    return _take(data, at, n_bytes)


def _take(data: bytes, at: int, n_bytes: int) -> tuple[bytes, int]:
    if n_bytes > len(data) - at:
        raise ValueError("a field is longer than what holds it")
    return data[at : at + n_bytes], at + n_bytes
