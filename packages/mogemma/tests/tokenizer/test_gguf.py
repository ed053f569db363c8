"""The vocabulary in a GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mogemma.checkpoint import open_checkpoint
from mogemma.checkpoint.strings import StringArray
from mogemma.errors import ModelFormatError, TokenizerError, UnsupportedModelError
from mogemma.tokenizer import Tokenizer
from mogemma.tokenizer.gguf import read_gguf_vocabulary
from mogemma.tokenizer.tokenizer_json import read_tokenizer_json
from mogemma.tokenizer.vocabulary import PieceType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def metadata(data_path: Path) -> Iterator[dict[str, Any]]:
    with open_checkpoint(data_path / "tiny/gemma3-text/model.gguf") as checkpoint:
        yield dict(checkpoint.metadata)


@pytest.fixture
def merged(data_path: Path) -> Iterator[dict[str, Any]]:
    """Metadata of a Gemma 4, whose tokenizer is a list of merges."""
    with open_checkpoint(data_path / "tiny/gemma4-e2b/model.gguf") as checkpoint:
        yield dict(checkpoint.metadata)


def test_reads_pieces_scores_and_types_in_the_order_of_the_ids(metadata: dict[str, Any]) -> None:
    vocabulary = read_gguf_vocabulary(metadata)
    tokens = metadata["tokenizer.ggml.tokens"]
    assert [vocabulary.pieces[token].decode() for token in range(len(tokens))] == list(tokens)
    assert vocabulary.scores.tolist() == metadata["tokenizer.ggml.scores"].tolist()
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, False)


def test_bos_is_expected_where_the_file_says_nothing(metadata: dict[str, Any]) -> None:
    del metadata["tokenizer.ggml.add_bos_token"]
    assert read_gguf_vocabulary(metadata).add_bos


def test_a_file_without_tokenizer_says_so() -> None:
    with pytest.raises(TokenizerError, match="no tokenizer"):
        read_gguf_vocabulary({"general.architecture": "gemma3"})


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model", "gpt2", "'gpt2'"),
        ("model", "gemma5", "'gemma5'"),
        ("add_space_prefix", True, "a space before each text"),
    ],
)
def test_refuses_an_algorithm_that_it_does_not_have(
    metadata: dict[str, Any], key: str, value: object, sentence: str
) -> None:
    metadata[f"tokenizer.ggml.{key}"] = value
    with pytest.raises(UnsupportedModelError, match=sentence):
        read_gguf_vocabulary(metadata)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", None),
        ("tokens", np.zeros(512)),
        ("scores", None),
        ("scores", np.zeros(511, np.float32)),
        ("scores", np.full(512, np.nan, np.float32)),
        ("scores", np.zeros(512, np.int32)),
        ("token_type", None),
        ("token_type", np.ones(513, np.int32)),
        ("token_type", np.full(512, 7, np.int32)),
        ("token_type", np.full(512, -1, np.int32)),
        ("token_type", np.full(512, 1.0, np.float32)),
        ("bos_token_id", 512),
        ("bos_token_id", -1),
        ("bos_token_id", "2"),
        ("bos_token_id", None),
        ("eos_token_id", True),
        ("padding_token_id", 1 << 40),
        ("add_bos_token", 1),
        ("add_eos_token", "yes"),
    ],
)
def test_refuses_what_does_not_fit_together(metadata: dict[str, Any], key: str, value: object) -> None:
    metadata[f"tokenizer.ggml.{key}"] = value
    with pytest.raises(ModelFormatError):
        read_gguf_vocabulary(metadata)


def test_a_piece_marked_as_byte_must_be_one(metadata: dict[str, Any]) -> None:
    types = metadata["tokenizer.ggml.token_type"].copy()
    types[300] = 6
    metadata["tokenizer.ggml.token_type"] = types
    with pytest.raises(ModelFormatError, match="<0x00> to <0xFF>"):
        read_gguf_vocabulary(metadata).byte_ids()


class TestMerges:
    """The tokenizer of Gemma 4; `test_tokenizer.py` holds its ids to the goldens."""

    def test_give_the_table_of_tokenizer_json(self, merged: dict[str, Any], tiny_folder: Path) -> None:
        vocabulary = read_gguf_vocabulary(merged)
        table, _ = read_tokenizer_json(tiny_folder / "tokenizer.json")
        assert vocabulary.scores.tolist() == table.scores.tolist()
        is_text = np.isin(vocabulary.types, [PieceType.NORMAL, PieceType.UNUSED, PieceType.BYTE])
        assert vocabulary.types[is_text].tolist() == table.types[is_text].tolist()

    def test_scores_in_the_file_mean_nothing(self, merged: dict[str, Any], tiny: Tokenizer) -> None:
        """Converters write -1000 for each piece."""
        merged["tokenizer.ggml.scores"] = np.full(512, -1000, np.float32)
        text = "the weather there and then\n\n\n    indented"
        assert Tokenizer.from_gguf(merged).encode(text) == tiny.encode(text)

    def test_runs_of_spaces_and_newlines_are_merged_where_they_are_no_marks(self, merged: dict[str, Any]) -> None:
        """As in published files, which call 23 of 262,144 pieces control or user-defined, and all runs normal."""
        marked = Tokenizer.from_gguf(dict(merged))
        types = merged["tokenizer.ggml.token_type"].copy()
        tokens = list(merged["tokenizer.ggml.tokens"])
        runs = [token for token, text in enumerate(tokens) if text and not text.strip("▁\n")]
        assert sum(types[runs] == PieceType.USER_DEFINED) > 3
        types[runs] = PieceType.NORMAL
        merged["tokenizer.ggml.token_type"] = types
        tokenizer = Tokenizer.from_gguf(merged)
        for token in runs:
            text = f"a{tokens[token].replace('▁', ' ')}b"
            assert tokenizer.encode(text) == marked.encode(text), text

    def test_a_piece_that_no_merge_makes_is_never_made(self, merged: dict[str, Any]) -> None:
        types = read_gguf_vocabulary(merged | {"tokenizer.ggml.merges": _strings_of(merged, "merges", 0)}).types
        assert PieceType.NORMAL in types  # single characters
        tokens = list(merged["tokenizer.ggml.tokens"])
        assert {len(tokens[token]) for token in np.flatnonzero(types == PieceType.NORMAL)} == {1}

    def test_bos_is_put_before_a_text_also_where_the_file_says_no(self, merged: dict[str, Any]) -> None:
        merged["tokenizer.ggml.add_bos_token"] = False
        assert read_gguf_vocabulary(merged).add_bos

    @pytest.mark.parametrize("value", [None, np.zeros(3), "a b"])
    def test_must_be_strings(self, merged: dict[str, Any], value: object) -> None:
        merged["tokenizer.ggml.merges"] = value
        with pytest.raises(ModelFormatError, match=r"tokenizer\.ggml\.merges should be an array of strings"):
            read_gguf_vocabulary(merged)

    def test_must_be_pairs(self, merged: dict[str, Any]) -> None:
        """The tokens stand for a list of merges none of which is one."""
        merged["tokenizer.ggml.merges"] = merged["tokenizer.ggml.tokens"]
        with pytest.raises(ModelFormatError, match="pairs of pieces with one space between"):
            read_gguf_vocabulary(merged)

    def test_more_than_any_vocabulary_needs_are_not_read(
        self, merged: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mogemma.tokenizer.gguf._MAX_MERGES", 227)
        with pytest.raises(ModelFormatError, match="228 merges; at most 227"):
            read_gguf_vocabulary(merged)

    @pytest.mark.parametrize("n_types", [0, 511, 513])
    def test_types_must_fit_the_tokens(self, merged: dict[str, Any], n_types: int) -> None:
        merged["tokenizer.ggml.token_type"] = np.ones(n_types, np.int32)
        with pytest.raises(ModelFormatError, match="512 numbers"):
            read_gguf_vocabulary(merged)


def _strings_of(metadata: dict[str, Any], name: str, count: int) -> StringArray:
    """The first `count` strings of an array."""
    strings = metadata[f"tokenizer.ggml.{name}"]
    return StringArray(strings._file, name, strings._first, strings._starts[: count + 1])
