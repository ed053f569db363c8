"""`mogemma doctor` finds what is broken, and says what to do about it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, copy_folder
from commandline import document, run

import mogemma
from mogemma._native import Engine, runnable_levels
from mogemma.commands import self_check
from mogemma.errors import KernelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with one model."""
    copy_folder(GEMMA, tmp_path / "models" / "tiny")
    return tmp_path / "models"


def problems_of(folder: Path, **variables: str) -> list[str]:
    result = run("doctor", "--json", **{"MOGEMMA_MODELS": str(folder), **variables})
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"]) == (1, False)
    problems: list[str] = found["problems"]
    return problems


def test_json_has_all_that_is_asked_for_when_help_is_wanted(folder: Path) -> None:
    found = document(run("doctor", "--json", MOGEMMA_MODELS=str(folder)))
    assert found["ok"] is True
    assert found["problems"] == found["notes"] == []
    assert found["versions"]["mogemma"] == mogemma.__version__
    assert found["versions"]["python"].endswith(sys.version.split()[0])
    assert found["system"]["executable"] == sys.executable
    assert 1 <= found["processor"]["usable"] <= found["processor"]["affinity"] <= found["processor"]["cores"]
    assert found["memory"]["total_bytes"] > 2**28
    assert found["kernels"]["runnable"] == list(runnable_levels())
    assert found["kernels"]["chosen"] == list(runnable_levels())[-1]
    assert found["kernels"]["computes"] is True
    assert found["models"]["folder"] == str(folder)
    assert [(one["name"], one["family"]) for one in found["models"]["found"]] == [("tiny", "gemma3")]


def test_the_hub_is_named_and_never_the_token(folder: Path) -> None:
    result = run("doctor", "--json", MOGEMMA_MODELS=str(folder), HF_TOKEN="hf_secret", HF_HOME="/no/home")
    found = document(result)
    assert found["hub"] == {
        "cache": "/no/home/hub",
        "endpoint": os.environ["HF_ENDPOINT"],
        "offline": False,
        "token": True,
    }
    assert found["versions"]["huggingface-hub"] is not None
    assert "hf_secret" not in result.output


def test_the_environment_is_a_table_of_every_variable(folder: Path) -> None:
    found = document(run("doctor", "--json", MOGEMMA_MODELS=str(folder), MOGEMMA_THREADS="2", MOGEMMA_STOP="a\nb"))
    table = {one["name"]: one for one in found["environment"]}
    assert {"MOGEMMA_MODEL", "MOGEMMA_CPU_LEVEL", "MOGEMMA_MAX_TOKENS", "MOGEMMA_DIMENSIONS"} <= set(table)
    assert table["MOGEMMA_MODELS"]["value"] == str(folder)
    assert (table["MOGEMMA_THREADS"]["value"], table["MOGEMMA_THREADS"]["option"]) == ("2", "--threads")
    assert table["MOGEMMA_SEED"]["value"] is None
    assert all(one["meaning"] for one in table.values())


def test_a_person_reads_the_same(folder: Path) -> None:
    shown = run("doctor", MOGEMMA_MODELS=str(folder))
    assert shown.exit_code == 0
    for title in ("versions", "processor", "memory", "kernels", f"models in {folder}", "environment", "All is well."):
        assert f"{title}\n" in shown.stdout
    assert "MOGEMMA_TOP_K" in shown.stdout
    broken = run("doctor", MOGEMMA_MODELS=str(folder), MOGEMMA_TOP_K="many")
    assert broken.exit_code == 1
    assert "\nPROBLEM: " in broken.stdout
    assert "All is well." not in broken.stdout


def test_a_variable_that_nothing_reads_is_noted(folder: Path) -> None:
    found = document(run("doctor", "--json", MOGEMMA_MODELS=str(folder), MOGEMMA_TEMPERATUR="1"))
    assert len(found["notes"]) == 1
    assert "MOGEMMA_TEMPERATUR" in found["notes"][0]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MOGEMMA_TOP_K", "many", "not a valid integer"),
        ("MOGEMMA_TOP_P", "3", "at most 1"),
        ("MOGEMMA_THREADS", "0", "from 1 to 256"),
        ("MOGEMMA_CACHE", "q8", "f16"),
        ("MOGEMMA_MODEL", "nothing", "no model 'nothing'"),
    ],
)
def test_a_variable_with_a_wrong_value_is_a_problem(variable: str, value: str, said: str, folder: Path) -> None:
    (problem,) = problems_of(folder, **{variable: value})
    assert variable in problem
    assert said in problem


def test_a_damaged_model_is_a_problem_and_an_unknown_one_a_note(folder: Path) -> None:
    copy_folder(EMBEDDING_GEMMA, folder / "other", {"model_type": "llama", "architectures": ["LlamaModel"]})
    found = document(run("doctor", "--json", MOGEMMA_MODELS=str(folder)))
    assert len(found["notes"]) == 1
    assert "other" in found["notes"][0]
    weights = folder / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (problem,) = problems_of(folder)
    assert problem.startswith("tiny is damaged: ")
    assert problem.endswith("get it again.")


def test_a_model_folder_that_was_named_must_be_there(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "missing")
    assert "MOGEMMA_MODELS" in problem


def test_kernels_that_do_not_run_here_are_a_problem(folder: Path) -> None:
    (problem,) = problems_of(folder, MOGEMMA_CPU_LEVEL="z80")
    assert "z80" in problem
    assert runnable_levels().keys() <= set(problem.replace(",", " ").replace(".", " ").split())


def test_kernels_that_end_the_process_are_a_problem_and_not_the_end(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -ILL $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    (problem,) = problems_of(folder)
    assert "signal 4" in problem


def test_kernels_that_compute_right_pass_their_own_check() -> None:
    self_check.check_kernels()


@pytest.mark.parametrize("method", ["matmul", "forward"])
def test_kernels_that_compute_wrong_do_not(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = getattr(Engine, method)
    calls = iter(range(1, 100))  # the first call is wrong too: with one core there is one product

    def wrong(self: Engine, *arguments: Any, **options: Any) -> Any:
        result = right(self, *arguments, **options)
        changed = options["logits"] if method == "forward" else result
        changed += 0.01 * next(calls)
        return result

    monkeypatch.setattr(Engine, method, wrong)
    with pytest.raises(KernelError, match="compute wrong"):
        self_check.check_kernels()
    assert self_check.main() == 1
    assert "compute wrong" in capsys.readouterr().out
