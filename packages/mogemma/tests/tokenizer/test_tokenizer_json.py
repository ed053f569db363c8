"""The vocabulary in a tokenizer.json, sound and hostile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from mogemma.errors import ModelFormatError, UnsupportedModelError
from mogemma.tokenizer import Tokenizer
from mogemma.tokenizer.sentencepiece import read_tokenizer_model
from mogemma.tokenizer.tokenizer_json import Frame, read_tokenizer_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def content(tiny_folder: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((tiny_folder / "tokenizer.json").read_text(encoding="utf-8"))
    return parsed


def write(folder: Path, content: object) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_has_the_pieces_and_types_of_tokenizer_model(tiny_folder: Path) -> None:
    """Which control pieces a text may hold must not depend on the file that was at hand."""
    ours, _ = read_tokenizer_json(tiny_folder / "tokenizer.json")
    model = read_tokenizer_model(tiny_folder / "tokenizer.model")
    assert [ours.pieces[token] for token in range(512)] == [model.pieces[token] for token in range(512)]
    assert ours.types.tolist() == model.types.tolist()


@given(text=st.text(st.sampled_from("theandi .,\n\t<>é日1"), max_size=60))
def test_plain_text_has_the_ids_of_the_tokenizers_library(tiny: Tokenizer, tiny_folder: Path, text: str) -> None:
    """The two libraries differ on a literal ▁ and on runs of a letter; neither is in here."""
    theirs = tokenizers.Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    assert tiny.encode(text, add_bos=False) == theirs.encode(text, add_special_tokens=False).ids


def test_old_files_write_merges_as_one_string(content: dict[str, Any], tmp_path: Path, tiny: Tokenizer) -> None:
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    write(tmp_path, content)
    text = "Hello world, the one and only\n\n"
    assert Tokenizer.from_folder(tmp_path).encode(text) == tiny.encode(text)


def test_pieces_that_no_merge_makes_are_never_made(content: dict[str, Any], tmp_path: Path) -> None:
    content["model"]["merges"] = []
    write(tmp_path, content)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert [tokenizer.piece_of(token) for token in tokenizer.encode("the", add_bos=False)] == ["t", "h", "e"]
    assert tokenizer.decode([282]) == " the"


@pytest.mark.parametrize(
    ("template", "frame"),
    [
        (["bos", "A"], Frame(add_bos=True, add_eos=False)),
        (["bos", "A", "eos"], Frame(add_bos=True, add_eos=True)),
        (["A"], Frame(add_bos=False, add_eos=False)),
        (["A", "eos"], Frame(add_bos=False, add_eos=True)),
        (None, Frame(add_bos=True, add_eos=False)),
    ],
)
def test_the_post_processor_says_what_stands_around_a_text(
    content: dict[str, Any], tmp_path: Path, template: list[str] | None, frame: Frame
) -> None:
    single = [{"Sequence": {"id": "A"}} if name == "A" else {"SpecialToken": {"id": name}} for name in template or []]
    content["post_processor"] = None if template is None else {"type": "TemplateProcessing", "single": single}
    assert read_tokenizer_json(write(tmp_path, content))[1] == frame


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "Unigram"}},
        {"model": {"byte_fallback": False}},
        {"model": {"end_of_word_suffix": "</w>"}},
        {"normalizer": None},
        {"normalizer": {"type": "Sequence", "normalizers": []}},
        {"pre_tokenizer": {"type": "ByteLevel"}},
    ],
)
def test_refuses_another_algorithm(content: dict[str, Any], tmp_path: Path, change: dict[str, Any]) -> None:
    model = content["model"] | change.pop("model", {})
    with pytest.raises(UnsupportedModelError, match="no tokenizer of a Gemma"):
        read_tokenizer_json(write(tmp_path, content | change | {"model": model}))


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": {"vocab": None}},
        {"model": {"vocab": []}},
        {"model": {"vocab": {"a": 0, "b": 2}}},
        {"model": {"vocab": {"a": 0, "b": 0}}},
        {"model": {"vocab": {"a": "0"}}},
        {"model": {"vocab": {"a": 0.0}}},
        {"model": {"vocab": {"a": False}}},
        {"model": {"vocab": {"a": -1}}},
        {"model": {"vocab": {"\ud800": 0}}},
        {"model": {"merges": {"a": "b"}}},
        {"model": {"merges": [["a", 1]]}},
        {"model": {"merges": [7]}},
        {"added_tokens": None},
        {"added_tokens": [{"id": 1 << 60, "content": "x", "special": True}]},
        {"added_tokens": [{"id": 0}]},
        {"added_tokens": ["x"]},
        {"post_processor": {"single": [7]}},
        {"post_processor": [7]},
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(
    content: dict[str, Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    changed = content | change
    if isinstance(changed["model"], dict):
        changed["model"] = content["model"] | changed["model"]
    if "vocab" in (change.get("model") or {}):
        changed["added_tokens"] = []
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json"):
        read_tokenizer_json(write(tmp_path, changed))


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "{", "[" * 100_000, '{"model": ' + "1" * 5000 + "}", "\x00", '"\ud800"']
)
def test_what_is_no_json_object_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json"):
        read_tokenizer_json(tmp_path / "tokenizer.json")


def test_a_file_of_millions_of_empty_lists_is_not_parsed(tmp_path: Path) -> None:
    """Two bytes of text would become 60 of memory each."""
    (tmp_path / "tokenizer.json").write_text("[" + "[]," * 3_000_000 + "[]]")
    with pytest.raises(ModelFormatError, match="values"):
        read_tokenizer_json(tmp_path / "tokenizer.json")
