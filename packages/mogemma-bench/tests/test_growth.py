from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mogemma_bench.cli import main
from mogemma_bench.errors import OptionError
from mogemma_bench.growth import measure_growth

if TYPE_CHECKING:
    from conftest import FakeEngine

TINY = Path(__file__).parents[3] / "packages/mogemma/tests/data/tiny/gemma3-text"

Tell = Callable[[str], None]


def test_each_length_is_prefilled_and_decoded_behind(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    engine.lie = {"prefill_seconds": 0.0004, "decode_seconds": 0.0002}
    result = measure_growth(weights, lambda: engine, lengths=(32, 8), n_rounds=3, n_new_tokens=5, tell=tell)
    assert [one.tokens for one in result.lengths] == [8, 32]
    assert [one.prefill.tokens_per_second.median for one in result.lengths] == pytest.approx([20_000, 80_000])
    assert [one.decode.tokens_per_second.median for one in result.lengths] == pytest.approx([25_000, 25_000])
    assert [engine.count_tokens(prompt) for prompt in engine.prompts] == [8] * 4 + [32] * 4  # with the warm-ups
    assert len(set(engine.prompts)) == 8


def test_a_prompt_longer_than_the_model_holds_is_cut_to_that(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    result = measure_growth(weights, lambda: engine, lengths=(8, 100, 1000), n_rounds=1, n_new_tokens=5, tell=tell)
    assert [one.tokens for one in result.lengths] == [8, 64 - 6]


def test_a_model_without_room_is_an_error(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    engine.facts = replace(engine.facts, context=6)
    with pytest.raises(OptionError, match="holds 6 tokens: too few for 5 behind a prompt"):
        measure_growth(weights, lambda: engine, lengths=(8,), n_rounds=1, n_new_tokens=5, tell=tell)
    assert not engine.is_open


def test_the_command_runs_on_a_real_checkpoint() -> None:
    result = CliRunner().invoke(main, ["growth", "--model", str(TINY), "--rounds", "2", "--threads", "1"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["mode"], [one["tokens"] for one in found["lengths"]]) == ("growth", [128, 256 - 33])
    assert all(len(one["prefill"]["tokens_per_second"]["samples"]) == 2 for one in found["lengths"])


def test_the_precision_is_passed_on() -> None:
    arguments = ("--rounds", "1", "--prompt-tokens", "8", "--arithmetic", "bfloat16", "--quantize", "bf16")
    result = CliRunner().invoke(main, ["growth", "--model", str(TINY), *arguments])
    assert result.exit_code == 0, result.stderr
    model = json.loads(result.stdout)["model"]
    assert (model["arithmetic"], model["quantize"]) == ("bfloat16", "bf16")


def test_people_get_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma_bench.commands.growth.wants_json", lambda _: False)
    monkeypatch.setenv("COLUMNS", "150")
    arguments = ["growth", "--model", str(TINY), "--rounds", "1", "--prompt-tokens", "40", "--max-new-tokens", "3"]
    shown = CliRunner().invoke(main, arguments).stdout
    assert "100%" in shown
    assert "decode behind it" in shown
