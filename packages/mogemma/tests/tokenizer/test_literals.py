"""Finding the longest of many fixed texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.errors import ModelFormatError
from mogemma.tokenizer.literals import longest_of

TEXTS = st.text(alphabet="ab<|.", min_size=1, max_size=5)


@given(st.lists(TEXTS, min_size=1, max_size=8), st.text(alphabet="ab<|.", max_size=30))
def test_finds_what_an_alternation_from_long_to_short_finds(texts: list[str], text: str) -> None:
    plain = re.compile(f"({'|'.join(map(re.escape, sorted(texts, key=len, reverse=True)))})")
    assert longest_of(texts).split(text) == plain.split(text)


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_is_found_when_there_is_nothing_to_find(texts: list[str]) -> None:
    assert longest_of(texts).split("abc") == ["abc"]


def test_the_longest_text_that_is_read_compiles() -> None:
    """Each is the beginning of the next: the deepest nesting there can be."""
    runs = ["a" * n for n in range(1, 129)]
    assert longest_of(runs).findall("a" * 300) == ["a" * 128, "a" * 128, "a" * 44]


def test_refuses_more_than_a_vocabulary_has() -> None:
    """Each character may cost 200 bytes of memory."""
    with pytest.raises(ModelFormatError, match="524288 characters together"):
        longest_of(f"{number:0100}" for number in range(6000))


def test_refuses_a_text_too_long_to_be_a_token() -> None:
    with pytest.raises(ModelFormatError, match="129 characters"):
        longest_of(["a" * 129])
