"""Merging: against SentencePiece, against its own plain form, and in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mogemma.tokenizer import bpe
from mogemma.tokenizer.bpe import BytePairEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mogemma.tokenizer import Tokenizer
    from mogemma.tokenizer.vocabulary import Vocabulary

WORDS = ["the", "and", "he", "a", "b", "in", "ing", "1", "42", "é", "日本", "👍🏽"]
SPACES = [" ", "  ", "▁", "\n", "\n\n", "\t", "\r", "\x00", "\u200d"]
MARKS = ["<", ">", "</", "> </", "<table>", "</table", "<0x0A>", "[multimodal]", "<start_of_"]
FRAGMENTS = st.sampled_from([*WORDS, *SPACES, *MARKS])
TEXTS = st.lists(st.one_of(FRAGMENTS, st.characters(exclude_categories=["Cs"])), max_size=60).map("".join)


@pytest.fixture(scope="module")
def tiny_sentencepiece(tiny_folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(tiny_folder / "tokenizer.model"))


@pytest.fixture(scope="module")
def real_sentencepiece(embeddinggemma_path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(embeddinggemma_path / "tokenizer.model"))


@given(TEXTS)
@example(" " * 100)
@example("> </> </a ▁ ▁▁a")
def test_any_text_has_the_ids_of_sentencepiece(
    tiny: Tokenizer, tiny_sentencepiece: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    assert tiny.encode(text, add_bos=False) == tiny_sentencepiece.encode(text)


@settings(deadline=None)  # the first of them reads the models
@given(TEXTS)
@example("> </b> </x> </ >\n </")
@example("a" * 500)
@example("日本語のテスト" * 40)
def test_any_text_has_the_ids_of_sentencepiece_with_gemmas_vocabulary(
    real: Tokenizer, real_sentencepiece: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    """Words are merged apart, though Gemma has one piece with a space inside, ">▁</"."""
    assert real.encode(text, add_bos=False) == real_sentencepiece.encode(text)


@given(
    st.text(alphabet="ab▁é", max_size=80),
    st.permutations(["a", "b", "▁", "ab", "ba", "aa", "▁a", "a▁", "aba", "bb", "▁▁", "éa"]),
)
def test_the_fast_way_of_merging_agrees_with_the_plain_one(
    make_vocabulary: Callable[..., Vocabulary], text: str, pieces: list[str]
) -> None:
    encoder = BytePairEncoder(make_vocabulary(*pieces))
    encoder.prepare(text)
    word = text.encode()
    bounds = [at for at, byte in enumerate(word) if byte & 0xC0 != 0x80] + [len(word)]
    assert encoder._merge_long(word, bounds.copy()) == encoder._merge_short(word, bounds.copy())


@given(
    st.text(alphabet="ab▁", max_size=40), st.permutations(["a", "b", "▁", "a▁b", "▁a", "b▁", "a▁", "▁▁", "b▁a", "aa"])
)
def test_words_merged_apart_are_the_text_merged_in_one(
    make_vocabulary: Callable[..., Vocabulary], text: str, pieces: list[str]
) -> None:
    encoder = BytePairEncoder(make_vocabulary(*pieces))
    encoder.prepare(text)
    assert encoder.encode(text) == (encoder._merge(text.encode()) if text else [])


def test_many_pieces_with_spaces_inside_only_cost_the_cutting_into_words(
    make_vocabulary: Callable[..., Vocabulary],
) -> None:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    encoder = BytePairEncoder(
        make_vocabulary("▁", *letters, *(f"{a}▁" for a in letters), *(f"{a}▁b" for a in letters), *"ABC")
    )
    text = "▁".join(["xb"] * 3 + letters * 3)
    encoder.prepare(text)
    assert encoder.encode(text) == encoder._merge(text.encode())


def test_pieces_of_equal_score_are_merged_from_the_left(make_vocabulary: Callable[..., Vocabulary]) -> None:
    vocabulary = make_vocabulary("a", "b", "ab", "ba")
    vocabulary.scores[:] = 0
    encoder = BytePairEncoder(vocabulary)
    encoder.prepare("aba")
    a, b, ab, ba = range(260, 264)
    assert encoder.encode("aba") == [ab, a]
    assert encoder.encode("bab") == [ba, b]


def test_scores_above_below_and_at_zero_are_in_order(make_vocabulary: Callable[..., Vocabulary]) -> None:
    vocabulary = make_vocabulary(*"abcdefghi")
    vocabulary.scores[260:269] = [3e38, 2.5, 1e-40, 0.0, -0.0, -1e-40, -1, -2.5, -3e38]
    turns = bpe._turns(vocabulary.scores)[260:269].tolist()
    assert turns == sorted(turns)
    assert len(set(turns)) == 8  # zero has one sign


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "ab" * 50_000, "> </" * 25_000, "<" * 100_000, " " * 100_000, "\n" * 100_000]
)
def test_long_runs_take_no_quadratic_time(real: Tokenizer, text: str) -> None:
    """Quadratic would be hours."""
    start = time.process_time()
    ids = real.encode(text, add_bos=False)
    assert time.process_time() - start < 20
    assert real.decode(ids) == text


def test_the_memory_of_words_is_bounded(
    make_vocabulary: Callable[..., Vocabulary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpe, "_MAX_CACHED_WORDS", 10)
    encoder = BytePairEncoder(make_vocabulary("a", "b"))
    words = [f"▁{'a' * n}" for n in range(25)] + ["▁" + "b" * 1000]
    encoder.prepare("".join(words))
    for _ in range(2):
        assert len(encoder.encode("".join(words))) == sum(2 + len(word) for word in words)
        assert len(encoder) <= 10
        assert max(map(len, encoder)) <= 64
