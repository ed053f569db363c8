"""Vocabularies that several tests of the tokenizer share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mogemma.checkpoint import open_checkpoint
from mogemma.tokenizer import Tokenizer
from mogemma.tokenizer.pieces import Pieces
from mogemma.tokenizer.vocabulary import PieceType, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_folder(data_path: Path) -> Path:
    """The tokenizer files of a Gemma-like vocabulary of 512 pieces."""
    return data_path / "tiny-tokenizer"


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_folder)


@pytest.fixture(scope="session")
def real(gemma_270m_path: Path) -> Iterator[Tokenizer]:
    """The tokenizer of Gemma 3 270M, from its GGUF file."""
    with open_checkpoint(gemma_270m_path) as checkpoint:
        yield Tokenizer.from_gguf(checkpoint.metadata)


@pytest.fixture(scope="session")
def make_vocabulary() -> Callable[..., Vocabulary]:
    return _make_vocabulary


def _make_vocabulary(
    *normal: str, user_defined: tuple[str, ...] = (), has_bytes: bool = True, **others: bool | int | None
) -> Vocabulary:
    """Pieces in this order: <pad> <eos> <bos> <unk>, the user-defined, the bytes, the normal (the first merges first)."""
    control = [b"<pad>", b"<eos>", b"<bos>", b"<unk>"]
    pieces = control + [text.encode() for text in user_defined]
    types = [PieceType.CONTROL] * 3 + [PieceType.UNKNOWN] + [PieceType.USER_DEFINED] * len(user_defined)
    if has_bytes:
        pieces += [b"<0x%02X>" % byte for byte in range(256)]
        types += [PieceType.BYTE] * 256
    scores = [0.0] * len(pieces) + [-float(rank) for rank in range(len(normal))]
    pieces += [text.encode("utf-8", "surrogateescape") for text in normal]
    types += [PieceType.NORMAL] * len(normal)
    settings: dict[str, Any] = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, **others}
    return Vocabulary(Pieces.of(pieces), np.array(scores, np.float32), np.array(types, np.int32), **settings)
