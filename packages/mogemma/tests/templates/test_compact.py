"""The notation of calls: what is written is read back, and what cannot be read is told and never raised further."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.errors import PromptError
from mogemma.templates import as_text, function_gemma, gemma4, read_tools
from mogemma.templates.call_reader import CallError, read_call
from mogemma.templates.compact import ToolMarkers
from mogemma.templates.conversation import Call
from mogemma.templates.segments import Writer

QUOTE = gemma4.TOOLS.quote
TEXTS = st.text(max_size=12).filter(lambda text: QUOTE not in text and "<escape>" not in text)
KEYS = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z")
NUMBERS = st.integers(-(10**15), 10**15) | st.floats(-1e9, 1e9).filter(lambda x: "e" not in repr(x))
VALUES = st.recursive(
    st.booleans() | NUMBERS | TEXTS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def written(arguments: Any, markers: ToolMarkers = gemma4.TOOLS) -> str:
    """What stands between the markers of a call."""
    writer = Writer()
    markers.write_call(writer, Call("f", arguments))
    return as_text(writer.segments[1:-1])


@pytest.mark.parametrize("markers", [gemma4.TOOLS, function_gemma.TOOLS], ids=["gemma4", "functiongemma"])
@given(arguments=st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_is_written_is_read_back(markers: ToolMarkers, arguments: dict[str, Any]) -> None:
    assert read_call(written(arguments, markers), markers.quote) == ("f", arguments)


@pytest.mark.parametrize("form", ["{}", "call:f{{{}", "call:f{{a:{}}}"])
@given(text=st.text("call:f{}[],'\"<|>1e-. \n\\nulltrue", max_size=60) | st.text(max_size=30))
def test_any_text_is_read_or_refused_by_a_sentence(form: str, text: str) -> None:
    try:
        name, arguments = read_call(form.format(text), QUOTE)
    except CallError as error:
        assert str(error).endswith(".")  # noqa: PT017  most texts are refused, some are read
    else:
        assert name
        assert isinstance(arguments, dict)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not begin with"),
        ("get_time{}", "does not begin with"),
        ("call:get_time", "does not begin with"),
        ("call:{}", "does not begin with"),
        ("call:a b{}", "does not begin with"),
        ("call:f{", "missing"),
        ("call:f{a", "missing"),
        ("call:f{a:", "neither a text"),
        ("call:f{a:oslo}", "neither a text"),
        (f"call:f{{a:{QUOTE}oslo}}", "ends inside a text"),
        ("call:f{a:1", "ends too early"),
        ("call:f{a:1 b:2}", "','"),
        ("call:f{a:1,a:2}", "two values for 'a'"),
        ("call:f{a:1}}", "behind its closing brace"),
        ("call:f{a:1e999}", "too large"),
        ("call:f{a:" + "[" * 1000, "nested"),
        ('call:f{a:"\\x"}', "escape"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(CallError, match=sentence):
        read_call(text, QUOTE)


def test_json_inside_is_understood() -> None:
    """Models fall back on it."""
    assert read_call('call:f{"a": "x\\n\\"y", b: [1, -2.5e3, null], }'.replace(", }", "}"), QUOTE) == (
        "f",
        {"a": 'x\n"y', "b": [1, -2500.0, None]},
    )
    assert read_call(" call: f { } ", QUOTE) == ("f", {})


def test_every_part_of_a_schema_is_declared() -> None:
    """In the order of Gemma 4's published template."""
    parameters = {
        "type": "object",
        "properties": {
            "b": {"type": "string", "enum": ["x", "y"], "description": "d", "nullable": True},
            "A": {"type": ["string", "null"]},
            "xs": {
                "type": "array",
                "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            },
            "o": {"type": "object", "properties": {"q": {"type": "number"}}, "required": ["q"]},
            "any": {},
        },
    }
    writer = Writer()
    gemma4.TOOLS.declare(writer, *read_tools([{"name": "f", "parameters": parameters}]))
    assert as_text(writer.segments).replace(QUOTE, "'") == (
        "<|tool>declaration:f{description:'',parameters:{properties:{A:{type:['STRING','NULL']},any:{},"
        "b:{description:'d',enum:['x','y'],nullable:true,type:'STRING'},"
        "o:{properties:{q:{type:'NUMBER'}},required:['q'],type:'OBJECT'},"
        "xs:{items:{properties:{n:{type:'INTEGER'}},required:['n'],type:'OBJECT'},type:'ARRAY'}},type:'OBJECT'}}<tool|>"
    )


SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["string", "object", "array", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("type properties required items enum description nullable additionalProperties x".split()),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "required", "x"]), SCHEMAS, max_size=4))
def test_any_schema_is_declared_or_refused_and_its_braces_close(schema: dict[str, Any]) -> None:
    try:
        tools = read_tools([{"name": "f", "parameters": schema}])
    except PromptError:
        return
    writer = Writer()
    gemma4.TOOLS.declare(writer, *tools)
    text = as_text(writer.segments)
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    assert text.count(QUOTE) % 2 == 0
    assert not re.search(r"[{\[],|,,|,[}\]]", text)
