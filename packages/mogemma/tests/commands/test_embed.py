"""`mogemma embed` writes the vectors that the library computes, in the form that is asked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA
from click.testing import Result
from commandline import EMBEDDER, WRITER, document, run
from numpy.typing import NDArray

from mogemma import SyncEmbeddingModel

TEXTS = ["a longer text about the sea", "b", "", "fish"]
Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> Iterator[SyncEmbeddingModel]:
    with SyncEmbeddingModel(EMBEDDING_GEMMA) as model:
        yield model


@pytest.fixture(scope="module")
def vectors(model: SyncEmbeddingModel) -> Vectors:
    return model.embed(TEXTS)


def lines(result: Result) -> Vectors:
    """The vectors of JSON lines, which must be in order."""
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["index"] for each in found] == list(range(len(found)))
    return np.array([each["embedding"] for each in found], np.float32)


def test_elsewhere_than_at_a_terminal_each_text_is_a_line_of_json(vectors: Vectors) -> None:
    """The numbers are those of the library to the bit, in as few digits as that takes."""
    result = run("embed", "-m", EMBEDDER, *TEXTS)
    assert np.array_equal(lines(result), vectors)
    assert len(result.stdout) / vectors.size < 16
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["-"], []])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_line_of_standard_input_is_a_text(arguments: list[str], newline: str, vectors: Vectors) -> None:
    """Empty ones too, so that vectors and lines keep together."""
    piped = "".join(f"{text}{newline}" for text in TEXTS)
    assert np.array_equal(lines(run("embed", "-m", EMBEDDER, *arguments, stdin=piped)), vectors)


def test_separators_inside_a_line_do_not_divide_it(model: SyncEmbeddingModel) -> None:
    text = "one\u2028two\x0bthree\x85four"
    assert np.array_equal(lines(run("embed", "-m", EMBEDDER, stdin=text)), model.embed([text]))


def test_json_is_one_document(vectors: Vectors) -> None:
    found = document(run("embed", "-m", EMBEDDER, "--json", *TEXTS))
    assert set(found) == {"model", "n_texts", "dimensions", "embeddings"}
    assert (found["n_texts"], found["dimensions"]) == vectors.shape
    assert np.array_equal(np.array(found["embeddings"], np.float32), vectors)
    assert (found["model"]["family"], found["model"]["path"]) == ("embeddinggemma", EMBEDDER)


def test_fewer_dimensions_are_of_unit_length(model: SyncEmbeddingModel) -> None:
    found = lines(run("embed", "-m", EMBEDDER, "--dimensions", "8", *TEXTS))
    assert np.array_equal(found, model.embed(TEXTS, dimensions=8))
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "prompt"),
    [
        (["--query"], "query"),
        (["--document"], "document"),
        (["--prompt", "clustering"], "clustering"),
        (["--prompt", "clustering", "--query"], "query"),
    ],
)
def test_the_prompt_of_a_task_comes_before_each_text(
    arguments: list[str], prompt: str, model: SyncEmbeddingModel
) -> None:
    found = lines(run("embed", "-m", EMBEDDER, *arguments, *TEXTS))
    assert np.array_equal(found, model.embed(TEXTS, prompt=prompt))
    assert not np.array_equal(found, model.embed(TEXTS))


@pytest.mark.parametrize("arguments", [["--query", "--document"], ["--prompt", "nonsense"], ["--format", "csv"]])
def test_wrong_options_have_status_2(arguments: list[str]) -> None:
    assert run("embed", "-m", EMBEDDER, *arguments, "a").exit_code == 2


def test_an_array_goes_to_a_pipe() -> None:
    found = run("embed", "-m", EMBEDDER, "--format", "npy", "a", "b").stdout_bytes
    assert np.load(io.BytesIO(found)).shape == (2, 36)


@pytest.mark.parametrize("arguments", [[], ["--format", "npy"], ["--format", "jsonl"], ["--json"]])
def test_the_end_of_a_files_name_says_its_form_if_nothing_else_does(
    arguments: list[str], tmp_path: Path, vectors: Vectors
) -> None:
    path = tmp_path / "vectors.npy"
    result = run("embed", "-m", EMBEDDER, *arguments, "--output", str(path), *TEXTS)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    if arguments in ([], ["--format", "npy"]):
        assert np.array_equal(np.load(path), vectors)
    else:
        assert path.read_bytes()[:1] == b"{"
    assert os.listdir(tmp_path) == ["vectors.npy"]


def test_a_file_stays_as_it_was_when_something_goes_wrong(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    path.write_bytes(b"before")
    assert run("embed", "-m", EMBEDDER, "--output", str(path), "word " * 3000).exit_code == 1
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["vectors.npy"]


def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "vectors.npy"
    result = run("embed", "-m", "/no/model", "--output", str(path), "a")
    assert result.exit_code == 1
    assert result.stderr == f"mogemma: {path}: No such file or directory.\n"


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to("vectors.npy")
    assert run("embed", "-m", EMBEDDER, "--output", str(tmp_path / "link.npy"), "a").exit_code == 0
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "vectors.npy").shape == (1, 36)


def test_a_device_is_written_and_not_replaced() -> None:
    assert run("embed", "-m", EMBEDDER, "--output", "/dev/null", "a").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_a_terminal_shows_how_each_vector_begins(monkeypatch: pytest.MonkeyPatch, vectors: Vectors) -> None:
    monkeypatch.setattr("mogemma.commands.embed.is_terminal", lambda stream: True)
    shown = run("embed", "-m", EMBEDDER, *TEXTS).stdout.splitlines()
    assert [line.endswith("(36 numbers)") for line in shown] == [True] * len(TEXTS)
    assert shown[0].startswith(TEXTS[0])
    assert f"{vectors[0, 0]:+.4f}" in shown[0]
    refused = run("embed", "-m", EMBEDDER, "--format", "npy", "a")
    assert refused.exit_code == 2
    assert "terminal" in refused.stderr


def test_it_says_so_when_the_model_was_not_made_for_vectors() -> None:
    result = run("embed", "-m", WRITER, "a")
    assert lines(result).shape == (1, 40)
    assert "was made to write" in result.stderr


def test_it_says_so_when_the_dense_heads_are_left_out() -> None:
    whole, skipped = run("embed", "-m", EMBEDDER, "a"), run("embed", "-m", EMBEDDER, "--dense", "skip", "a")
    assert not np.array_equal(lines(whole), lines(skipped))
    assert "without the dense heads" in skipped.stderr
    assert "without the dense heads" not in whole.stderr


def test_the_variable_for_embedding_models_comes_before_that_for_all() -> None:
    found = document(run("embed", "--json", "a", MOGEMMA_MODEL=WRITER, MOGEMMA_EMBEDDING_MODEL=EMBEDDER))
    assert found["model"]["path"] == EMBEDDER
    found = document(run("embed", "--json", "a", MOGEMMA_MODEL=WRITER))
    assert found["model"]["path"] == WRITER


@pytest.mark.parametrize("form", ["jsonl", "json", "npy"])
def test_a_standard_output_that_is_closed_takes_nothing_and_is_no_reason_to_fail(form: str) -> None:
    """As with the other commands: `mogemma embed ... >&-`."""
    shell = '"$0" -m mogemma "$@" >&-'
    command = ["sh", "-c", shell, sys.executable, "embed", "-m", EMBEDDER, "--format", form, "fish"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
