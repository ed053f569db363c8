"""The vocabulary in a GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mogemma.checkpoint import open_checkpoint
from mogemma.errors import ModelFormatError, TokenizerError, UnsupportedModelError
from mogemma.tokenizer.gguf import read_gguf_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def metadata(data_path: Path) -> Iterator[dict[str, Any]]:
    with open_checkpoint(data_path / "tiny/gemma3-text/model.gguf") as checkpoint:
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
        ("model", "gemma4", "'gemma4'"),
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
