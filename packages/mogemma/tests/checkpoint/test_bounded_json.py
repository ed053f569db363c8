"""JSON from strangers is read, or refused for little."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.checkpoint.bounded_json import MAX_JSON_BYTES, MAX_JSON_VALUES, parse_json
from mogemma.errors import ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=VALUES)
def test_json_comes_out_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value).encode(), "config.json") == value


def test_a_byte_order_mark_is_no_error() -> None:
    """Editors on Windows write one."""
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "config.json") == {"a": 1}


def test_the_large_number_in_tokenizer_configs_is_read() -> None:
    assert parse_json(b'{"model_max_length": 1000000000000000019884624838656}', "x") == {"model_max_length": int(1e30)}


@given(data=st.binary(max_size=60))
def test_noise_is_refused_by_the_name_of_its_source(data: bytes) -> None:
    try:
        parse_json(data, "config.json")
    except ModelFormatError as error:
        message = str(error)
    else:  # noise is JSON now and then
        message = "config.json"
    assert message.startswith("config.json")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[]," * 400_000,
        b"9" * 1_000_000,
        b"-" + b"9" * 1_000_000,
        b'"' + b"\\" * 999_999,
    ],
    ids=lambda data: repr(data[:6]),
)
def test_text_made_to_explode_is_refused_for_little(
    data: bytes, costs_little: Callable[[], AbstractContextManager[None]]
) -> None:
    with costs_little(), pytest.raises(ModelFormatError):
        parse_json(data, "config.json")


def test_the_largest_text_that_is_read_stays_affordable() -> None:
    """At the limit of values, the object is what a model's own tokenizer_config.json may be, a few times over."""
    data = b"[" + b"[]," * (MAX_JSON_VALUES // 2 - 1) + b"[]]"
    assert len(data) < MAX_JSON_BYTES
    assert parse_json(data, "x") == [[]] * (MAX_JSON_VALUES // 2)
