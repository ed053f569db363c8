"""What makes a model slow is said beside the result, and only then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from checkpoints import GEMMA, QUANT_ZOO, TINY, copy_folder
from commandline import EMBEDDER, WRITER, run

from mogemma import session
from mogemma.architectures import Architecture
from mogemma.commands import advice

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "generate": ["generate", "-m", WRITER, "--max-tokens", "1", "--json", "a"],
    "chat": ["chat", "-m", WRITER, "--max-tokens", "1", "--json", "a"],
    "embed": ["embed", "-m", EMBEDDER, "--json", "a"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_more_threads_than_cores_work_and_are_told_of_once(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "available_cores", lambda: 2)
    result = run(*COMMANDS[command], "--threads", "3")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"]["threads"] == 3
    assert result.stderr.count("\n") == 1
    assert "3 threads share 2 cores" in result.stderr
    assert "--threads 2 is faster" in result.stderr


def test_as_many_threads_as_cores_are_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "available_cores", lambda: 2)
    assert run(*COMMANDS["embed"], "--threads", "2").stderr == ""


def test_half_a_core_is_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "available_cores", lambda: 1)
    assert "2 threads share 1 core and" in run(*COMMANDS["embed"], "--threads", "2").stderr


def test_a_model_larger_than_memory_is_said_to_stay_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Architecture, "is_quantised", True)  # but for a few layers the file is
    path = str(QUANT_ZOO / "model.gguf")
    assert not json.loads(run("info", "-m", path, "--json").stdout)["is_short_of_memory"]
    monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
    result = run("info", "-m", path, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["packed_bytes"], found["is_short_of_memory"]) == (0, 0, True)
    assert "The weights stay in the file" in result.stderr
    shown = dict(line.split("  ", 1) for line in run("info", "-m", path).stdout.splitlines())
    assert shown["too big to pack"].strip() == "yes"


@pytest.mark.parametrize(
    ("case", "parts"),
    [("gemma3-vision", "multi_modal_projector, vision_tower"), ("gemma4-e2b-mm", "audio_tower, vision")],
)
def test_a_model_that_also_sees_or_hears_writes_and_says_once_what_is_left_alone(case: str, parts: str) -> None:
    result = run("info", "-m", str(TINY / case))
    assert result.exit_code == 0
    assert result.stderr.count("is left alone") == 1
    assert f"It is the text of this model that runs; {parts}" in result.stderr
    assert "left alone" not in run("info", "-m", WRITER).stderr


def test_a_context_cut_to_memory_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(copy_folder(GEMMA, tmp_path / "model", {"max_position_embeddings": 100_000}))
    assert "tokens, of" not in run("generate", "-m", path, "--max-tokens", "1", "a").stderr
    monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
    told = run("generate", "-m", path, "--max-tokens", "1", "a").stderr
    assert told.count("The context is 512 tokens, of 100,000 that this model was made for") == 1
    assert "tokens, of" not in run("generate", "-m", path, "--context", "600", "--max-tokens", "1", "a").stderr


def test_weights_that_have_to_fit_and_do_not_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
    result = run("generate", "-m", WRITER, "--quantize", "bf16", "a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("mogemma: quantize='bf16' would keep")
