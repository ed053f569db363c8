"""What all commands have in common: how they start, where their options come from, and how they end."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder
from commandline import GREEDY, PROMPT, WRITER, document, endless_model, run, start

from mogemma.cli import main

COMMANDS = ["generate", "chat", "embed", "tokenize", "info", "pull", "list", "rm", "doctor"]


@pytest.mark.parametrize("arguments", [["--help"], *([command, "-h"] for command in COMMANDS)])
def test_every_command_says_what_it_does_without_loading_what_is_heavy(arguments: list[str]) -> None:
    """Help comes in a tenth of a second: no numpy, no kernels, no tokenizers, no rich."""
    program = (
        "import sys\nfrom mogemma.cli import main\n"
        f"try: main({arguments})\n"
        "finally: print(*{'numpy', 'cffi', 'tokenizers', 'rich', 'huggingface_hub'}.intersection(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ")
    assert done.stderr.split() == []


def test_every_option_has_a_help_line() -> None:
    for name, command in main.commands.items():
        assert command.help, name
        assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_python_m_mogemma_is_the_same_command() -> None:
    process = start("--version")
    output, _ = process.communicate(timeout=20)
    assert output.startswith(b"mogemma, version ")


def test_an_environment_variable_sets_an_option_and_the_option_wins() -> None:
    variables = {"MOGEMMA_MODEL": WRITER, "MOGEMMA_MAX_TOKENS": "2", "MOGEMMA_SEED": "7"}
    by_variable = document(run("generate", "--json", PROMPT, **variables))
    assert (len(by_variable["token_ids"]), by_variable["seed"]) == (2, 7)
    by_option = document(run("generate", "--json", "--max-tokens", "3", PROMPT, **variables))
    assert (len(by_option["token_ids"]), by_option["seed"]) == (3, 7)


def test_without_a_name_the_instruction_tuned_model_of_the_folder_is_taken_first(tmp_path: Path) -> None:
    copy_folder(GEMMA, tmp_path / "gemma-3-270m")
    assert document(run("info", "--json", MOGEMMA_MODELS=str(tmp_path)))["path"].endswith("gemma-3-270m")
    copy_folder(GEMMA, tmp_path / "gemma-3-270m-it")
    assert document(run("info", "--json", MOGEMMA_MODELS=str(tmp_path)))["path"].endswith("gemma-3-270m-it")


def test_without_a_name_embed_takes_the_embedding_model_of_the_folder(tmp_path: Path) -> None:
    copy_folder(GEMMA, tmp_path / "gemma-3-270m")
    copy_folder(EMBEDDING_GEMMA, tmp_path / "embeddinggemma-300m")
    found = document(run("embed", "--json", "a", MOGEMMA_MODELS=str(tmp_path)))
    assert found["model"]["family"] == "embeddinggemma"


@pytest.mark.parametrize("command", ["generate", "chat", "embed", "tokenize"])
def test_without_any_model_it_says_what_to_do(command: str) -> None:
    """There is no network where these tests run."""
    result = run(command, "a")
    assert result.exit_code == 1
    assert result.stderr.startswith("mogemma: No model is named, and the default one, ")
    assert "cannot be reached" in result.stderr
    assert "mogemma list" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["generate", "-m", "/no/model.gguf", "a"], 1, "/no/model.gguf"),
        (["generate", "-m", WRITER, "--max-tokens", "1000", "a"], 1, "holds 256"),
        (["generate", "-m", WRITER, "a\udcff"], 1, "lone surrogate"),
        (["generate", "-m", WRITER, "--temperature", "-1", "a"], 2, "temperature is -1.0"),
        (["generate", "-m", WRITER, "--temperature", "nan", "a"], 2, "temperature is nan"),
        (["generate", "-m", WRITER, "--threads", "0", "a"], 2, "threads is 0"),
        (["embed", "-m", WRITER, "--dimensions", "41", "a"], 2, "41"),
        (["generate", "-m", str(EMBEDDING_GEMMA), "a"], 1, "EmbeddingModel"),
    ],
)
def test_an_expected_error_is_one_sentence_and_a_status(arguments: list[str], status: int, sentence: str) -> None:
    result = run(*arguments)
    last = result.stderr.splitlines()[-1]
    assert (result.exit_code, result.stdout) == (status, "")
    assert last.startswith("mogemma: ")
    assert sentence in last


@pytest.mark.parametrize("arguments", [["generate", "--top-k", "x", "a"], ["generate", "--nonsense"], ["nonsense"]])
def test_a_wrong_command_line_has_status_2_and_shows_the_usage(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")


def test_input_that_is_no_utf_8_is_an_error_that_names_the_byte() -> None:
    result = run("generate", *GREEDY, "-", stdin=b"caf\xe9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "byte 3 is 0xe9" in result.stderr


@pytest.mark.parametrize("command", ["generate", "chat", "embed", "tokenize"])
def test_no_text_at_all_is_a_wrong_command_line(command: str) -> None:
    assert run(command, "-m", WRITER, stdin=b"").exit_code == 2


def test_text_comes_while_it_is_written_and_ctrl_c_ends_it_with_status_130(tmp_path: Path) -> None:
    """Quietly, and at once: what was written stays, and there is no traceback."""
    process = start("generate", "-m", endless_model(tmp_path), "--temperature", "0", PROMPT)
    assert process.stdout is not None
    assert len(process.stdout.read(20)) == 20
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    output, error = process.communicate(timeout=20)
    assert time.monotonic() - began < 2
    assert (process.returncode, error) == (130, b"")
    assert output.decode("utf-8").isprintable()


def test_ctrl_c_ends_the_reading_of_a_long_prompt(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("word " * 25_000)
    with (tmp_path / "prompt").open("rb") as prompt:
        process = start("generate", "-m", endless_model(tmp_path), stdin=prompt)
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.communicate(timeout=20) == (b"", b"")
    assert time.monotonic() - began < 2
    assert process.returncode == 130


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    """As in `mogemma generate ... | head -c 1`."""
    process = start("generate", *GREEDY, "--max-tokens", "200", PROMPT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=20) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_a_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("generate", *GREEDY, "--max-tokens", "2", PROMPT, stdout=full)
        _, error = process.communicate(timeout=20)
    assert (process.returncode, error.count(b"\n")) == (1, 1)
    assert b"No space left" in error


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_the_output_cannot_take_are_escaped(encoding: str) -> None:
    arguments = ["generate", *GREEDY, "--max-tokens", "1", "--echo", "sea \u6d77"]
    process = start(*arguments, PYTHONIOENCODING=encoding)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output.startswith(b"sea \\u6d77")


def test_json_is_json_in_every_encoding() -> None:
    arguments = ["tokenize", "-m", WRITER, "--json", "caf\xe9 \u6d77"]
    output, _ = start(*arguments, PYTHONIOENCODING="latin-1").communicate(timeout=20)
    assert json.loads(output) == document(run(*arguments))


def test_closed_streams_are_no_reason_to_fail() -> None:
    """As a daemon starts it: `mogemma ... <&- >&- 2>&-`."""
    shell = '"$0" -m mogemma "$@" <&- >&- 2>&-'
    command = ["/bin/sh", "-c", shell, sys.executable, "generate", *GREEDY, "--max-tokens", "2", PROMPT]
    assert subprocess.run(command, check=False, timeout=20).returncode == 0


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model could move the cursor, or worse; where a program reads, the text stays what it is."""
    from mogemma.commands.streams import write  # noqa: PLC0415  before it, sys.stdout is pytest's

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for output, expected in ((Terminal(), "a\\x1b[2J\tb\n"), (io.StringIO(), "a\x1b[2J\tb\n")):
        monkeypatch.setattr(sys, "stdout", output)
        write("a\x1b[2J\tb\n")
        assert output.getvalue() == expected
