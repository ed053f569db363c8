"""The vocabulary in a tokenizer.model, sound and hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from mogemma.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from mogemma.tokenizer.sentencepiece import read_tokenizer_model
from mogemma.tokenizer.vocabulary import PieceTable, PieceType

if TYPE_CHECKING:
    from pathlib import Path

TRAINER_BPE = b"\x12\x02\x18\x02"
NORMALIZER_IDENTITY = b"\x1a\x04\x18\x00\x20\x00"
SPECS = TRAINER_BPE + NORMALIZER_IDENTITY


def field(tag: int, content: bytes) -> bytes:
    """A field of bytes, with a length of up to 16383."""
    n = len(content)
    return bytes([tag]) + (bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])) + content


def piece(text: bytes, kind: int | None = None, score: bytes = b"\x00\x00\x80\xbf") -> bytes:
    return field(10, field(10, text) + b"\x15" + score + (b"" if kind is None else bytes([0x18, kind])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def read(folder: Path, data: bytes) -> PieceTable:
    (folder / "tokenizer.model").write_bytes(data)
    return read_tokenizer_model(folder / "tokenizer.model")


@pytest.mark.parametrize("model", ["tiny", "real"])
def test_reads_what_sentencepiece_reads(model: str, request: pytest.FixtureRequest) -> None:
    path: Path = (
        request.getfixturevalue("tiny_folder" if model == "tiny" else "embeddinggemma_path") / "tokenizer.model"
    )
    table = read_tokenizer_model(path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = list(range(theirs.vocab_size()))
    assert [table.pieces[token].decode() for token in range(len(table.pieces))] == theirs.id_to_piece(ids)
    assert table.scores.tolist() == theirs.get_score(ids)
    is_byte = [kind == PieceType.BYTE for kind in table.types]
    assert is_byte == theirs.is_byte(ids)


def test_turn_markers_and_reserved_pieces_are_control_pieces(folder: Path) -> None:
    """SentencePiece files call them user-defined, and so would let a user's text open a turn."""
    texts = [b"<start_of_turn>", b"<end_of_turn>", b"<unused12>", b"<mask>", b"<table>", b"<unused>"]
    table = read(folder, b"".join(piece(text, 4) for text in texts) + SPECS)
    assert table.types.tolist() == [PieceType.CONTROL] * 4 + [PieceType.USER_DEFINED] * 2


def test_reads_pieces_of_any_form(folder: Path) -> None:
    """Long ones, empty ones, fields in another order, fields of the future: only the usual form has a fast way."""
    unusual = [
        piece(b"a" * 300, 1),
        field(10, b""),
        field(10, b"\x18\x03\x15\x00\x00\x80\x3f" + field(10, b"order")),
        field(10, field(10, b"future") + b"\x28\x96\x01" + b"\x35abcd" + b"\x39abcdefgh" + field(0x42, b"...")),
        b"\x28\x05" + field(0x22, b"self test data"),
    ]
    table = read(folder, piece(b"first") + b"".join(unusual) + piece(b"last", 6) * 60 + SPECS)
    texts = [table.pieces[token] for token in range(len(table.pieces))]
    assert texts == [b"first", b"a" * 300, b"", b"order", b"future"] + [b"last"] * 60
    assert table.types.tolist() == [1, 1, 1, 3, 1] + [6] * 60
    assert table.scores.tolist() == [-1, -1, 0, 1, 0] + [-1] * 60


@pytest.mark.parametrize(
    ("specs", "sentence"),
    [
        (NORMALIZER_IDENTITY, "no BPE model"),
        (b"\x12\x02\x18\x01" + NORMALIZER_IDENTITY, "no BPE model"),
        (TRAINER_BPE, "a space before each text"),
        (TRAINER_BPE + b"\x1a\x02\x18\x00", "removes spaces"),
        (TRAINER_BPE + b"\x1a\x06\x18\x00\x20\x00\x28\x00", "spaces as ▁"),
        (TRAINER_BPE + b"\x1a\x07\x12\x01x\x18\x00\x20\x00", "rewrites characters"),
        (b"\x12\x05\x18\x02\xc0\x01\x01" + NORMALIZER_IDENTITY, "at the end of words"),
    ],
)
def test_refuses_a_model_that_treats_text_otherwise(folder: Path, specs: bytes, sentence: str) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence):
        read(folder, piece(b"a") + specs)


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html>",
        b"\x0a",
        b"\x0a\x7f",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff" * 20,
        b"\x0b" + SPECS,
        piece(b"a", 7) + SPECS,
        field(10, b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01") + SPECS,
        field(10, b"\x0a\x7fshort") + SPECS,
        field(10, b"\x15\x00\x00") + SPECS,
        (piece(b"a") * 60)[:-3],
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(folder: Path, data: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"tokenizer\.model"):
        read(folder, data)


@given(st.data())
def test_no_change_of_a_byte_or_length_does_more_than_raise(
    folder: Path, tiny_folder: Path, data: st.DataObject
) -> None:
    content = bytearray((tiny_folder / "tokenizer.model").read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    try:
        table = read(folder, bytes(content))
    except (ModelFormatError, UnsupportedModelError):
        return
    assert len(table.pieces) == len(table.scores) == len(table.types) <= len(content) // 2


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="absent"):
        read_tokenizer_model(folder / "absent.model")


def test_a_file_of_absurd_size_is_not_read(folder: Path) -> None:
    with (folder / "tokenizer.model").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelFormatError, match="at most"):
        read_tokenizer_model(folder / "tokenizer.model")
