"""Messages with calls of tools and their results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.errors import MogemmaError, PromptError
from mogemma.templates.conversation import ToolResult, read_messages

USER = {"role": "user", "content": "Hi"}


def calls(*names: str, ids: bool = True) -> dict[str, Any]:
    made = [{"function": {"name": name, "arguments": {}}} | ({"id": f"id_{name}"} if ids else {}) for name in names]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(content: Any = "x", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **fields}


def test_results_join_the_message_that_called() -> None:
    by_id = [USER, calls("a", "b"), result("1", tool_call_id="id_b"), result({"n": 2}, tool_call_id="id_a")]
    user, model = read_messages(by_id)
    assert (user.text, model.parts) == ("Hi", ())
    assert model.results == (ToolResult("b", "1"), ToolResult("a", {"n": 2}))


def test_a_result_without_an_id_is_of_the_named_tool_or_of_the_next() -> None:
    (_, model) = read_messages([USER, calls("a", "b", ids=False), result("1"), result("2")])
    assert [one.name for one in model.results] == ["a", "b"]
    (_, model) = read_messages([USER, calls("a", "b", ids=False), result("1", name="b"), result("2", name="a")])
    assert [one.name for one in model.results] == ["b", "a"]


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([result()], "Message 0 is the result of a tool, but the message before it called none"),
        ([USER, result()], "Message 1 is the result of a tool"),
        ([USER, calls("a"), USER, result()], "Message 3 is the result of a tool"),
        ([USER, calls("a"), result(tool_call_id="id_b")], "the call 'id_b', which the message before has not"),
        ([USER, calls("a", ids=False), result(), result()], "one result more"),
        ([USER, calls("a"), result(None, tool_call_id="id_a")], "neither a text nor a list of parts"),
        ([USER, {"role": "assistant", "tool_calls": 7}], "has as tool_calls no list"),
        ([USER, {"role": "assistant", "tool_calls": [7]}], "a tool call that is not like"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {"name": "a<b"}}]}], "a tool call that is not like"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"name": "a", "arguments": "{"}]}],
            "neither a mapping nor a JSON",
        ),
        (
            [USER, {"role": "assistant", "tool_calls": [{"name": "a", "arguments": "[1]"}]}],
            "neither a mapping nor a JSON",
        ),
        ([USER, {"role": "assistant", "content": "a", "reasoning": 7}], "has as reasoning no text"),
    ],
)
def test_what_does_not_fit_is_told(messages: Any, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        read_messages(messages)


JUNK = st.recursive(
    st.none() | st.sampled_from(["user", "assistant", "tool", "text", "f", "{}"]) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("role content type text tool_calls function name arguments id tool_call_id".split()),
            inner,
            max_size=4,
        )
    ),
)


@given(JUNK | st.lists(JUNK))
def test_anything_else_raises_an_error_of_the_library(messages: Any) -> None:
    try:
        assert read_messages(messages)
    except MogemmaError:
        return
