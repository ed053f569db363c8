"""Pieces in one buffer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mogemma.tokenizer.pieces import Pieces


@given(st.lists(st.binary(max_size=12)))
def test_gives_back_each_text(texts: list[bytes]) -> None:
    pieces = Pieces.of(texts)
    assert len(pieces) == len(texts)
    assert [pieces[index] for index in range(len(pieces))] == texts


@given(st.lists(st.binary(max_size=3)))
def test_of_equal_texts_the_first_counts(texts: list[bytes]) -> None:
    ids = np.arange(len(texts))
    assert Pieces.of(texts).ids_by_text(ids) == {text: texts.index(text) for text in texts}


@given(st.lists(st.text(alphabet="ab日é", min_size=1, max_size=8)), st.text(alphabet="ab日éx", max_size=20))
def test_never_misses_a_piece_that_a_text_has(texts: list[str], text: str) -> None:
    pieces = Pieces.of(piece.encode() for piece in texts)
    may_occur = pieces.may_occur_in(text.encode())
    assert all(may_occur[index] for index, piece in enumerate(texts) if piece in text)


def test_leaves_out_nearly_all_that_a_text_does_not_have() -> None:
    words = [f"{number:07}" for number in range(100_000)]
    may_occur = Pieces.of(word.encode() for word in words).may_occur_in(b"0012345 and 0067890")
    assert {12345, 67890} <= set(np.flatnonzero(may_occur).tolist())
    assert may_occur.sum() < 100
