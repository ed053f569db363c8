"""Tools: descriptions as OpenAI takes them, and Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Optional

import pytest

from mogemma.errors import PromptError
from mogemma.templates import read_tools


def convert(
    amount: float,
    to: Literal["eur", "nok"] = "eur",
    rates: list[int] | None = None,
    *,
    note: Optional[str] = None,  # noqa: UP045  both spellings are read
) -> str:
    """Convert an amount
    of money.

    More is said here.

    Args:
        amount: How much.
        to (str): Into what.
    """
    return f"{amount} {to} {rates} {note}"


def test_a_function_is_described_by_its_signature_and_docstring() -> None:
    (tool,) = read_tools([convert])
    assert tool.as_dict() == {
        "type": "function",
        "function": {
            "name": "convert",
            "description": "Convert an amount of money.",
            "parameters": {
                "type": "object",
                "properties": {
                    "amount": {"type": "number", "description": "How much."},
                    "to": {"type": "string", "enum": ["eur", "nok"], "description": "Into what."},
                    "rates": {"type": "array", "items": {"type": "integer"}, "nullable": True},
                    "note": {"type": "string", "nullable": True},
                },
                "required": ["amount"],
            },
        },
    }


def test_descriptions_may_lack_everything_but_the_name() -> None:
    (whole,) = read_tools([{"type": "function", "function": {"name": "ping"}}])
    (short,) = read_tools([{"name": "ping"}])
    assert whole == short
    assert (whole.description, whole.parameters) == ("", {"type": "object"})
    assert read_tools(None) == read_tools([]) == ()


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def circle() -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    schema["self"] = schema
    return schema


def no_annotation(a: int) -> None:
    """Nothing."""


del no_annotation.__annotations__["a"]


def odd_annotation(a: bytes) -> None:
    """Nothing."""


def positional(a: int, /) -> None:
    """Nothing."""


def unknown(a: int) -> None:
    """Nothing."""


unknown.__annotations__["a"] = "Missing"


def annotated(annotation: object) -> Callable[..., Any]:
    """A function whose one parameter is annotated so, as `from __future__ import annotations` leaves it."""

    def book(day: str) -> str:
        return day

    book.__annotations__["day"] = annotation
    return book


@pytest.mark.parametrize(
    "annotation",
    [
        "datetime.nothing",  # no such attribute, or no such name
        "Any.nothing",
        "not valid(",
        "",
        "1 / 0",
        "list[",
        "Missing",
        "{}['a']",
        "[][0]",
        "__import__('no_such_module')",
        "(" * 300 + ")" * 300,
        "a\0b",
    ],
)
def test_an_annotation_that_cannot_be_evaluated_is_named_with_its_tool(annotation: str) -> None:
    """Whatever Python says of it: it is evaluated, and may raise anything."""
    with pytest.raises(
        PromptError, match=r"book\(day\) has the annotation .*, which cannot be read: .*JSON schema"
    ) as caught:
        read_tools([annotated(annotation)])
    assert repr(annotation)[:60] in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_annotation_of_the_result_is_not_asked_for() -> None:
    def ask(day: str) -> str:
        return day

    ask.__annotations__["return"] = "not valid("
    (tool,) = read_tools([ask])
    assert tool.name == "ask"


@pytest.mark.parametrize(
    ("tools", "sentence"),
    [
        ("convert", "a list of functions"),
        ({"name": "f"}, "a list of functions"),
        ([7], "A tool is a Python function"),
        ([{}], "A tool is a Python function"),
        ([{"name": "a b"}], "A tool is a Python function"),
        ([{"name": "<|turn>"}], "A tool is a Python function"),
        ([{"function": {"name": "f"}}, {"name": "f"}], "Two tools have the name 'f'"),
        ([{"name": "f", "description": 7}], "needs a text"),
        ([{"name": "f", "parameters": [1]}], "JSON schema"),
        ([{"name": "f", "parameters": {"properties": [1]}}], "properties"),
        ([{"name": "f", "parameters": {"a": object()}}], "JSON cannot hold"),
        ([{"name": "f", "parameters": nested(40)}], "levels deep"),
        ([{"name": "f", "parameters": circle()}], "levels deep"),
        ([no_annotation], r"no_annotation\(a\) has no annotation"),
        ([odd_annotation], r"odd_annotation\(a\) has the annotation"),
        ([positional], "cannot be given by name"),
        ([unknown], "cannot be read"),
        ([lambda: 0], "A tool is a Python function"),
    ],
)
def test_what_is_no_tool_is_refused_by_a_sentence(tools: Any, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        read_tools(tools)
