"""`mogemma tokenize` shows the tokens that the library makes of a text, and turns them back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checkpoints import GEMMA
from commandline import EMBEDDER, WRITER, document, run

from mogemma import SyncGemmaModel

TEXT = "The  sea\nis <end_of_turn> w\xefde \U0001f30a"


@pytest.fixture(scope="module")
def ids() -> Iterator[list[int]]:
    with SyncGemmaModel(GEMMA) as model:
        yield model.tokenizer.encode(TEXT)


def spelled(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def test_each_token_is_a_line_with_its_id_and_its_spelling(ids: list[int]) -> None:
    shown = run("tokenize", "-m", WRITER, TEXT).stdout.splitlines()
    assert [int(line.split()[0]) for line in shown] == ids
    assert shown[0].endswith('"<bos>"')


def test_ids_and_count_and_json_are_the_same_tokens(ids: list[int]) -> None:
    assert run("tokenize", "-m", WRITER, "--ids", TEXT).stdout == f"{spelled(ids)}\n"
    assert run("tokenize", "-m", WRITER, "--count", TEXT).stdout == f"{len(ids)}\n"
    found = document(run("tokenize", "-m", WRITER, "--json", TEXT))
    assert set(found) == {"n_tokens", "token_ids", "pieces"}
    assert (found["n_tokens"], found["token_ids"]) == (len(ids), ids)
    assert (len(found["pieces"]), found["pieces"][0]) == (len(ids), "<bos>")


@pytest.mark.parametrize("form", ["{}", "[{}]"])
@pytest.mark.parametrize("separator", [" ", ", ", "\n"])
def test_decode_gives_the_text_back(form: str, separator: str, ids: list[int]) -> None:
    written = form.format(separator.join(map(str, ids)))
    assert run("tokenize", "-m", WRITER, "--decode", stdin=f"{written}\n").stdout == f"{TEXT}\n"
    found = document(run("tokenize", "-m", WRITER, "--decode", "--json", written))
    assert found == {"n_tokens": len(ids), "token_ids": ids, "text": TEXT}


def test_control_tokens_are_read_and_written_only_on_demand() -> None:
    plain = document(run("tokenize", "-m", WRITER, "--json", "<end_of_turn>"))["token_ids"]
    special = document(run("tokenize", "-m", WRITER, "--json", "--parse-special", "<end_of_turn>"))["token_ids"]
    assert (len(special), len(plain) > 2) == (2, True)
    assert run("tokenize", "-m", WRITER, "--decode", spelled(special)).stdout == "\n"
    shown = run("tokenize", "-m", WRITER, "--decode", "--parse-special", spelled(special)).stdout
    assert shown == "<bos><end_of_turn>\n"


def test_no_bos_leaves_out_what_stands_around_a_text() -> None:
    for model, n_around in ((WRITER, 1), (EMBEDDER, 2)):
        around = document(run("tokenize", "-m", model, "--json", "sea"))["token_ids"]
        alone = document(run("tokenize", "-m", model, "--json", "--no-bos", "sea"))["token_ids"]
        assert len(around) - len(alone) == n_around


@pytest.mark.parametrize("ids", ["1 x", "1.5", "-1", "\u0661", "9" * 30])
def test_what_is_no_token_id_is_named(ids: str) -> None:
    result = run("tokenize", "-m", WRITER, "--decode", "--", ids)
    assert result.exit_code == 1
    assert "is no token id" in result.stderr


def test_an_id_that_the_vocabulary_lacks_is_named() -> None:
    result = run("tokenize", "-m", WRITER, "--decode", "512")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "512" in result.stderr


def test_two_outputs_at_once_are_a_wrong_command_line() -> None:
    assert run("tokenize", "-m", WRITER, "--ids", "--count", "a").exit_code == 2
