"""Tokens of an answer to its text, its thoughts and its calls of tools, however they come."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vocabularies import FUNCTION_GEMMA_MARKERS, GEMMA_4_MARKERS, marked, tiny_with

from mogemma.answer_stream import AnswerStream, Piece
from mogemma.templates import function_gemma, gemma4
from mogemma.templates.template import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mogemma.completion import ToolCall
    from mogemma.tokenizer import Tokenizer

OPEN, CLOSE = gemma4.THOUGHT
CALL, END = gemma4.TOOLS.call
QUOTE = gemma4.TOOLS.quote
OSLO = f"{CALL}call:get_time{{city:{QUOTE}Oslo{QUOTE}}}{END}"
MARKERS = set(GEMMA_4_MARKERS)


@pytest.fixture(scope="module")
def four() -> Tokenizer:
    return tiny_with(GEMMA_4_MARKERS)


def stream(tokenizer: Tokenizer, ids: Sequence[int], **options: Any) -> tuple[list[Piece], AnswerStream]:
    answer = AnswerStream(tokenizer, options.pop("stop", ()), options.pop("answer", gemma4.ANSWER), **options)
    return [*map(answer.push, ids), answer.finish()], answer


def whole(tokenizer: Tokenizer, text: str | Sequence[int], **options: Any) -> Piece:
    """All that comes of an answer, joined."""
    ids = marked(tokenizer, text) if isinstance(text, str) else text
    return functools.reduce(Piece.then, stream(tokenizer, ids, **options)[0])


def errors(calls: Sequence[ToolCall]) -> list[str | None]:
    return [call.error for call in calls]


class TestThoughts:
    def test_are_apart_from_the_text(self, four: Tokenizer) -> None:
        assert whole(four, f"{OPEN}thought\nHm.\n\nWell.\n{CLOSE}It is noon.") == Piece("It is noon.", "Hm.\n\nWell.")

    @pytest.mark.parametrize("empty", [f"{OPEN}thought\n{CLOSE}", f"{OPEN}thought{CLOSE}", f"{OPEN}{CLOSE}", CLOSE])
    def test_may_be_empty(self, four: Tokenizer, empty: str) -> None:
        assert whole(four, f"{empty}Hi") == Piece("Hi")

    def test_may_break_off(self, four: Tokenizer) -> None:
        assert whole(four, f"{OPEN}thought\nHm. An") == Piece("", "Hm. An")
        assert whole(four, f"{OPEN}thought") == Piece()
        assert whole(four, f"{OPEN}tho") == Piece("", "tho")

    def test_that_lack_their_name_are_thoughts_too(self, four: Tokenizer) -> None:
        assert whole(four, f"{OPEN}though I am{CLOSE}Hi") == Piece("Hi", "though I am")

    def test_come_more_than_once(self, four: Tokenizer) -> None:
        assert whole(four, f"{OPEN}thought\na{CLOSE}x{OPEN}thought\nb\n{CLOSE}y") == Piece("xy", "a\n\nb")

    def test_may_have_been_opened_by_the_prompt(self, four: Tokenizer) -> None:
        for opening in (f"{OPEN}thought\n", OPEN):
            prompt = marked(four, f"<|turn>user\nHi<turn|>\n<|turn>model\n{opening}")
            text = f"Hm.{CLOSE}Hi" if opening != OPEN else f"thought\nHm.{CLOSE}Hi"
            assert whole(four, text, prompt_ids=prompt) == Piece("Hi", "Hm.")
        closed = marked(four, f"<|turn>model\n{OPEN}thought\n{CLOSE}")
        assert whole(four, "Hi", prompt_ids=closed) == Piece("Hi")


class TestCalls:
    def test_are_read(self, four: Tokenizer) -> None:
        (call,) = whole(four, OSLO).tool_calls
        assert (call.id, call.name, call.arguments, call.error) == ("call_0", "get_time", {"city": "Oslo"}, None)
        assert call.text == OSLO[len(CALL) : -len(END)]

    def test_several_and_text_and_a_thought(self, four: Tokenizer) -> None:
        piece = whole(four, f"{OPEN}thought\nHm.\n{CLOSE}Wait.{OSLO}{OSLO}")
        assert (piece.text, piece.reasoning) == ("Wait.", "Hm.")
        assert [(call.id, call.is_valid) for call in piece.tool_calls] == [("call_0", True), ("call_1", True)]

    def test_a_text_in_them_may_hold_anything_but_its_quote(self, four: Tokenizer) -> None:
        city = "}{],'\"\n <b> \u65e5\U0001f600"
        (call,) = whole(four, f"{CALL}call:f{{a:{QUOTE}{city}{QUOTE},b:[1,true]}}{END}").tool_calls
        assert call.arguments == {"a": city, "b": [1, True]}

    def test_functiongemma_writes_its_own(self) -> None:
        tokenizer = tiny_with(FUNCTION_GEMMA_MARKERS)
        text = "<start_function_call>call:f{a:<escape>x<escape>}<end_function_call>"
        (call,) = whole(tokenizer, text, answer=function_gemma.ANSWER).tool_calls
        assert (call.name, call.arguments, call.error) == ("f", {"a": "x"}, None)

    @pytest.mark.parametrize(
        "inside", ["", "nonsense", "call:f", "call:f{a:}", "call:f{a:oslo}", f"call:f{{a:{QUOTE}x}}", "call:f{}}"]
    )
    def test_that_are_malformed_are_reported(self, four: Tokenizer, inside: str) -> None:
        """Never raised, and never dropped: what was written is there."""
        piece = whole(four, f"a{CALL}{inside}{END}b")
        (call,) = piece.tool_calls
        assert (piece.text, call.text, call.is_valid, call.arguments) == ("ab", inside, False, {})
        assert str(call.error).endswith(".")

    @pytest.mark.parametrize("length", range(1, 12))
    def test_that_break_off_are_reported(self, four: Tokenizer, length: int) -> None:
        ids = marked(four, OSLO)[:length]
        piece = whole(four, ids)
        (call,) = piece.tool_calls
        assert piece.text == ""
        assert call.text == four.decode(ids[1:], skip_special=False)
        assert str(call.error).startswith("It was not ended.")

    def test_that_are_not_ended_end_where_the_next_begins(self, four: Tokenizer) -> None:
        piece = whole(four, f"{CALL}call:a{{{OSLO}x")
        assert [call.is_valid for call in piece.tool_calls] == [False, True]
        assert piece.text == "x"
        piece = whole(four, f"{CALL}call:a{{}}{OPEN}thought\nb")
        assert (errors(piece.tool_calls), piece.reasoning) == (["It was not ended."], "b")

    def test_of_what_was_not_offered_are_reported(self, four: Tokenizer) -> None:
        assert errors(whole(four, OSLO, tools={"get_time"}).tool_calls) == [None]
        (call,) = whole(four, OSLO, tools={"ping"}).tool_calls
        assert (call.name, call.error) == ("get_time", "There is no tool 'get_time' among those that were offered.")


class TestStops:
    def test_are_looked_for_in_the_text_alone(self, four: Tokenizer) -> None:
        text = f"{OPEN}thought\nSTOP{CLOSE}a{CALL}call:f{{a:{QUOTE}STOP{QUOTE}}}{END}bSTOPc"
        pieces, answer = stream(four, marked(four, text), stop=["STOP"])
        piece = functools.reduce(Piece.then, pieces)
        assert (piece.text, piece.reasoning, len(piece.tool_calls), answer.stopped_by) == ("ab", "STOP", 1, "STOP")

    def test_end_everything(self, four: Tokenizer) -> None:
        assert whole(four, f"aSTOP{OPEN}thought\nb{CLOSE}{OSLO}", stop=["STOP"]) == Piece("a")

    def test_do_not_reach_over_a_thought(self, four: Tokenizer) -> None:
        assert whole(four, f"ST{OPEN}thought\nx{CLOSE}OP", stop=["STOP"]) == Piece("STOP", "x")


class TestPlain:
    def test_a_family_without_markers_has_only_text(self, four: Tokenizer) -> None:
        text = f"a{OPEN}thought\nb{CLOSE}c{OSLO}"
        piece = whole(four, text, answer=PLAIN)
        assert piece == Piece(four.decode(marked(four, text)))

    def test_what_is_spelled_like_a_marker_is_text(self, four: Tokenizer) -> None:
        spelled = four.encode(OSLO, add_bos=False)
        assert whole(four, spelled) == Piece(OSLO)


TEXT = st.text("ab .\n{}:,\u65e5", max_size=6)
PARTS = st.lists(
    TEXT | st.sampled_from([OPEN, CLOSE, CALL, END, QUOTE, OSLO, f"{OPEN}thought\n", "call:f{"]), max_size=12
)


def byte_by_byte(tokenizer: Tokenizer, parts: Sequence[str]) -> list[int]:
    """The parts in the smallest tokens there are: markers, and bytes."""
    ids: list[int] = []
    for part, is_control in tokenizer.split_control("".join(parts)):
        names = [part] if is_control else [f"<0x{byte:02X}>" for byte in part.encode()]
        ids += [token for token in map(tokenizer.id_of, names) if token is not None]
    return ids


@given(PARTS)
def test_every_division_into_tokens_gives_the_same(four: Tokenizer, parts: list[str]) -> None:
    assert whole(four, byte_by_byte(four, parts)) == whole(four, "".join(parts))


@given(PARTS, st.sampled_from([(), ("ab",), ("\n", "a")]))
def test_what_comes_in_pieces_is_what_comes_at_once(four: Tokenizer, parts: list[str], stop: tuple[str, ...]) -> None:
    """And an answer that is cut anywhere is the beginning of the whole one."""
    ids = marked(four, "".join(parts))
    pieces, _ = stream(four, ids, stop=stop)
    everything = functools.reduce(Piece.then, pieces)
    for cut in range(len(ids)):
        shown = functools.reduce(Piece.then, stream(four, ids[:cut], stop=stop)[0][:-1], Piece())
        assert everything.text.startswith(shown.text)
        assert everything.reasoning.startswith(shown.reasoning)
        assert everything.tool_calls[: len(shown.tool_calls)] == shown.tool_calls


@given(st.lists(st.integers(0, 511 + len(GEMMA_4_MARKERS)), max_size=30))
def test_no_token_makes_it_fail_or_leaks_a_marker(four: Tokenizer, ids: list[int]) -> None:
    piece = whole(four, ids)
    assert not any(marker in piece.text + piece.reasoning for marker in MARKERS)
    n_opened = sum(1 for token in ids if token == four.id_of(CALL))
    assert len(piece.tool_calls) == n_opened
