from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mogemma_bench.errors import OptionError
from mogemma_bench.text import PASSAGE, text_of


def by_character(text: str) -> int:
    return 1 + len(text)


def by_word(text: str) -> int:
    """BOS, words and marks; a word is one token however long, so most characters more change nothing."""
    return 1 + len(re.findall(r"\w+|[^\w\s]", text))


def with_jumps(text: str) -> int:
    """Merges that come and go: now and then one character makes two tokens, or takes one away."""
    return 2 + len(text) // 3 + (len(text) % 7 == 0)


@pytest.mark.parametrize("count", [by_character, by_word, with_jumps])
@pytest.mark.parametrize("n_tokens", [3, 4, 17, 128, 512, 4001])
def test_a_text_has_exactly_the_tokens_asked_for(count: Callable[[str], int], n_tokens: int) -> None:
    assert count(text_of(n_tokens, count)) == n_tokens


def test_the_text_is_the_same_each_time() -> None:
    assert text_of(100, by_word, 3) == text_of(100, by_word, 3)


def test_texts_that_begin_elsewhere_share_no_prefix() -> None:
    """Else a cache of prefixes would make every round after the first look fast."""
    beginnings = [text_of(20, by_word, number).split()[:4] for number in range(len(PASSAGE.split()))]
    assert len({tuple(words) for words in beginnings}) == len(beginnings)


def test_a_number_that_no_text_has_is_an_error_that_says_so() -> None:
    with pytest.raises(OptionError, match=r"exactly 5 tokens .an empty one has 0.*--prompt-tokens"):
        text_of(5, lambda text: 2 * len(text))
