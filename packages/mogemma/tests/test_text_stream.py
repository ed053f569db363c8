"""Token ids to text in pieces: whole characters, and nothing of a stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.errors import ConfigError, TokenizerError
from mogemma.text_stream import TextStream
from mogemma.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IDS = st.lists(st.integers(0, 511), max_size=40)
STOPS = st.lists(st.text("ab\ufffd ", min_size=1, max_size=5), max_size=4)


@pytest.fixture(scope="module")
def tiny(data_path: Path) -> Tokenizer:
    return Tokenizer.from_folder(data_path / "tiny-tokenizer")


def stream(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[list[str], str | None]:
    """All pieces that come out, and what stopped the stream."""
    text = TextStream(tokenizer, stop)
    return [*map(text.push, ids), text.finish()], text.stopped_by


def spelled(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text in the smallest tokens there are: one for each byte."""
    ids = [tokenizer.id_of(f"<0x{byte:02X}>") for byte in text.encode()]
    return [token for token in ids if token is not None]


def first_stop(text: str, stops: Sequence[str]) -> tuple[int, str | None]:
    """Where a text ends and what ends it, by trying each end in turn."""
    for end in range(1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return end - len(stop), stop
    return len(text), None


class TestCharacters:
    @given(IDS)
    def test_the_pieces_joined_are_the_decoded_text(self, tiny: Tokenizer, ids: list[int]) -> None:
        """Also where the bytes are no UTF-8."""
        assert "".join(stream(tiny, ids)[0]) == tiny.decode(ids)

    @given(st.text())
    def test_a_character_comes_with_its_last_byte(self, tiny: Tokenizer, text: str) -> None:
        pieces, _ = stream(tiny, spelled(tiny, text))
        assert [piece for piece in pieces if piece] == list(text)

    def test_half_a_character_at_the_end_is_shown_as_such(self, tiny: Tokenizer) -> None:
        assert stream(tiny, spelled(tiny, "é")[:1])[0] == ["", "\ufffd"]

    def test_control_tokens_are_left_out(self, tiny: Tokenizer) -> None:
        assert stream(tiny, [2, 8, 464, 9, 1])[0] == ["", "", "a", "", "", ""]
        text = TextStream(tiny, skip_special=False)
        assert text.push(9) == "<end_of_turn>"

    def test_text_comes_without_delay_when_nothing_can_stop_it(self, tiny: Tokenizer) -> None:
        assert stream(tiny, tiny.encode(" the the", add_bos=False))[0] == [" the", " the", ""]


class TestStops:
    @given(st.text("ab "), STOPS)
    def test_text_ends_before_the_first_stop(self, tiny: Tokenizer, text: str, stops: list[str]) -> None:
        end, stop = first_stop(text, stops)
        pieces, stopped_by = stream(tiny, tiny.encode(text, add_bos=False), stops)
        assert ("".join(pieces), stopped_by) == (text[:end], stop)

    @given(st.text("ab "), STOPS)
    def test_how_a_text_is_cut_into_tokens_makes_no_difference(
        self, tiny: Tokenizer, text: str, stops: list[str]
    ) -> None:
        whole, by_bytes = (stream(tiny, ids, stops) for ids in (tiny.encode(text, add_bos=False), spelled(tiny, text)))
        assert ("".join(whole[0]), whole[1]) == ("".join(by_bytes[0]), by_bytes[1])

    @given(IDS, STOPS)
    def test_any_ids_give_the_beginning_of_the_decoded_text(
        self, tiny: Tokenizer, ids: list[int], stops: list[str]
    ) -> None:
        end, stop = first_stop(tiny.decode(ids), stops)
        pieces, stopped_by = stream(tiny, ids, stops)
        assert ("".join(pieces), stopped_by) == (tiny.decode(ids)[:end], stop)

    @given(st.text("ab "), STOPS)
    def test_no_more_is_held_back_than_could_begin_a_stop(self, tiny: Tokenizer, text: str, stops: list[str]) -> None:
        end, _ = first_stop(text, stops)
        pieces = stream(tiny, spelled(tiny, text[:end]), stops)[0][:-1]
        shown = "".join(pieces)
        held = text[len(shown) : end]
        assert not held or any(stop.startswith(held) for stop in stops)

    def test_a_stop_may_begin_and_end_inside_tokens(self, tiny: Tokenizer) -> None:
        ids = tiny.encode(" the the", add_bos=False)
        assert len(ids) == 2
        assert stream(tiny, ids, ["e t"]) == ([" th", "", ""], "e t")

    def test_a_beginning_that_comes_to_nothing_is_shown(self, tiny: Tokenizer) -> None:
        assert "".join(stream(tiny, spelled(tiny, "aab"), ["aac"])[0]) == "aab"
        assert stream(tiny, spelled(tiny, "aa"), ["aac"])[0] == ["", "", "aa"]

    def test_a_stop_that_overlaps_its_own_beginning_is_found(self, tiny: Tokenizer) -> None:
        assert "".join(stream(tiny, spelled(tiny, "ababababc"), ["ababc"])[0]) == "abab"

    def test_of_two_stops_that_end_together_the_longer_counts(self, tiny: Tokenizer) -> None:
        assert stream(tiny, spelled(tiny, "xab"), ["b", "ab"])[1] == "ab"

    def test_half_a_character_can_complete_a_stop(self, tiny: Tokenizer) -> None:
        ids = [*spelled(tiny, "a"), *spelled(tiny, "é")[:1]]
        assert stream(tiny, ids, ["\ufffd"]) == (["a", "", ""], "\ufffd")

    def test_nothing_comes_after_a_stop(self, tiny: Tokenizer) -> None:
        text = TextStream(tiny, ["a"])
        assert [text.push(token) for token in spelled(tiny, "bab")] == ["b", "", ""]
        assert text.finish() == ""
        assert text.stopped_by == "a"

    @pytest.mark.parametrize("stop", ["stop", [""], ["a", ""], [None], [b"a"], [7]])
    def test_refuses_what_is_no_list_of_texts(self, tiny: Tokenizer, stop: Any) -> None:
        with pytest.raises(ConfigError, match="stop takes a list of texts"):
            TextStream(tiny, stop)

    def test_refuses_what_is_no_id(self, tiny: Tokenizer) -> None:
        with pytest.raises(TokenizerError):
            TextStream(tiny).push(512)
