"""Which of a folder's tokenizer files are read, and what they say together."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from mogemma.errors import ModelFormatError, TokenizerError
from mogemma.tokenizer.folder import read_folder_vocabulary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    shutil.copy(tiny_folder / "tokenizer.model", tmp_path)
    return tmp_path


def configure(folder: Path, **config: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def test_tokenizer_model_is_preferred(folder: Path) -> None:
    """It is read ten times as fast."""
    (folder / "tokenizer.json").write_text("not even JSON")
    assert len(read_folder_vocabulary(folder).pieces) == 512


def test_tokenizer_json_is_read_where_a_derived_model_has_named_unused_pieces(folder: Path, tiny_folder: Path) -> None:
    """FunctionGemma's markers stand in the places of unused pieces, which tokenizer.model still calls so."""
    text = (tiny_folder / "tokenizer.json").read_text(encoding="utf-8").replace("<unused0>", "<start_function_call>")
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    for name, expected in (("<unused0>", b"<unused0>"), ("<start_function_call>", b"<start_function_call>")):
        configure(folder, added_tokens_decoder={"6": {"content": name}, "8": {"content": "<x>"}, "x": 7, "9" * 30: {}})
        assert read_folder_vocabulary(folder).pieces[6] == expected
    configure(folder, added_tokens_decoder=["<start_function_call>"])
    assert read_folder_vocabulary(folder).pieces[6] == b"<unused0>"


def test_without_a_config_the_names_of_gemma_count(folder: Path) -> None:
    vocabulary = read_folder_vocabulary(folder)
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.bos_id, vocabulary.unk_id) == (0, 1, 2, 3)
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, False)


def test_the_config_names_tokens_and_marks(folder: Path) -> None:
    configure(folder, eos_token={"content": "<end_of_turn>"}, pad_token="<eos>", unk_token=None, add_bos_token=None,
              add_eos_token=True)  # fmt: skip
    vocabulary = read_folder_vocabulary(folder)
    assert (vocabulary.eos_id, vocabulary.pad_id, vocabulary.unk_id) == (9, 1, 3)
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, True)
    assert not read_folder_vocabulary(folder, add_eos=False).add_eos


def test_a_token_that_is_no_piece_has_no_id(folder: Path) -> None:
    configure(folder, pad_token="[PAD]", eos_token="the")
    vocabulary = read_folder_vocabulary(folder)
    assert (vocabulary.pad_id, vocabulary.eos_id) == (None, None)


@pytest.mark.parametrize(
    "config", [{"bos_token": 7}, {"bos_token": {}}, {"add_bos_token": "yes"}, {"bos_token": "[CLS]"}]
)
def test_a_config_that_means_nothing_is_an_error(folder: Path, config: dict[str, object]) -> None:
    configure(folder, **config)
    with pytest.raises(ModelFormatError):
        read_folder_vocabulary(folder)


def test_a_folder_without_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        read_folder_vocabulary(tmp_path)
