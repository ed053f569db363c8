"""What can be the name of something on the hub, and what cannot."""

from __future__ import annotations

import pytest

from mogemma import ModelNotFoundError
from mogemma.hub.known import KNOWN
from mogemma.hub.source import HubSource, is_inside, read_source


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("google/gemma-3-1b-it", HubSource("google/gemma-3-1b-it")),
        ("ggml-org/gemma-3-1b-it-GGUF:Q8_0", HubSource("ggml-org/gemma-3-1b-it-GGUF", "Q8_0")),
        ("a/b:sub/c-Q4_0.gguf", HubSource("a/b", "sub/c-Q4_0.gguf")),
        ("a_b/c.d-e_f", HubSource("a_b/c.d-e_f")),
        ("gemma-3-1b-it", HubSource(KNOWN["gemma-3-1b-it"].repo_id)),
        ("Gemma-3-1B-it:q8_0", HubSource(KNOWN["gemma-3-1b-it"].repo_id, "q8_0")),
    ],
)
def test_ids_and_known_names_are_read(name: str, source: HubSource) -> None:
    assert read_source(name) == source


@pytest.mark.parametrize(
    "name",
    [
        "gemma",
        "gemma-3-1b-it.gguf",
        "models/gemma.gguf",
        "./a/b",
        "../a",
        "~/a",
        "/a/b",
        "a/b/c",
        "a//b",
        "a/",
        "/",
        "a/..",
        "../b",
        "a/b..c",
        "a--b/c",  # the cache could not tell it from a/b--c
        "a/b--c",
        "-a/b",
        "a/b.",
        "a/.b",
        "a/b.git",
        "a/b c",
        "a/b\n",
        "a/b\0",
        "a\\b/c",
        "ä/b",
        "a/b%2e%2e",
        "a/" + "b" * 97,
        "*/*",
        "",
    ],
)
def test_what_the_hub_cannot_have_is_no_source(name: str) -> None:
    assert read_source(name) is None


@pytest.mark.parametrize(
    "name", ["a/b:", "a/b:../c.gguf", "a/b:/c.gguf", "a/b:c\\d", "a/b:c:d", "a/b:c\x07", "gemma-3-1b-it:", "a/b:./c"]
)
def test_what_stands_behind_the_colon_stays_inside(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="behind the colon"):
        read_source(name)


@pytest.mark.parametrize(
    "name",
    ["https://huggingface.co/google/gemma-3-1b-it", "hf.co/a/b", "http://example.org/a.gguf", "huggingface.co/a/b"],
)
def test_an_address_is_answered_with_what_to_give_instead(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="is a web address"):
        read_source(name)


def test_a_source_is_written_as_it_is_read() -> None:
    for source in (HubSource("a/b"), HubSource("a/b", "Q8_0")):
        assert read_source(str(source)) == source


@pytest.mark.parametrize("path", ["..", "a/../b", "/a", "a/", "a//b", "", "a\\b", "C:a", "a\0", "a\n", "./a"])
def test_paths_that_lead_out_are_seen(path: str) -> None:
    assert not is_inside(path)


@pytest.mark.parametrize("path", ["a", "a/b.gguf", "..a", "a b", "ü.gguf", ".gitattributes"])
def test_paths_that_stay_are_too(path: str) -> None:
    assert is_inside(path)
