from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mogemma import Roofline
from mogemma_bench.errors import BenchError
from mogemma_bench.generation import measure_generation
from mogemma_bench.report import Compute

if TYPE_CHECKING:
    from conftest import FakeEngine

Tell = Callable[[str], None]


def test_every_round_has_a_prompt_of_its_own_for_prefill_and_decode(
    engine: FakeEngine, weights: Path, tell: Tell, told: list[str]
) -> None:
    result = measure_generation(weights, lambda: engine, n_rounds=3, n_prompt_tokens=12, n_new_tokens=5, tell=tell)
    assert engine.prompts[::2] == engine.prompts[1::2]  # prefill, decode, prefill, decode ...
    assert len(set(engine.prompts)) == 4  # with the warm-up
    assert {engine.count_tokens(prompt) for prompt in engine.prompts} == {12}
    assert len(result.prefill.tokens_per_second.samples) == len(result.decode.tokens_per_second.samples) == 3
    assert [line.split(":")[0] for line in told[1:]] == ["warm-up", *(f"round {n} of 3" for n in (1, 2, 3))]


def test_decode_bandwidth_is_all_weights_for_each_token(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    engine.facts = replace(engine.facts, layer_bytes=3_000, head_bytes=1_000)
    result = measure_generation(weights, lambda: engine, n_rounds=2, n_prompt_tokens=12, n_new_tokens=5, tell=tell)
    assert result.bandwidth.bytes_per_token == 4_000
    median = result.decode.tokens_per_second.median
    assert result.bandwidth.used_bytes_per_s == pytest.approx(4_000 * median)
    assert result.bandwidth.share == result.bandwidth.used_bytes_per_s / result.bandwidth.machine_bytes_per_s


def test_prefill_has_its_share_of_the_peak_of_its_arithmetic(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    engine.facts = replace(engine.facts, layer_weights=7_000, arithmetic="float32")
    result = measure_generation(weights, lambda: engine, n_rounds=2, n_prompt_tokens=12, n_new_tokens=5, tell=tell)
    compute = result.compute
    assert (compute.workload, compute.arithmetic, compute.macs_per_token) == ("prefill", "float32", 7_000)
    assert compute.used_macs_per_s == pytest.approx(7_000 * result.prefill.tokens_per_second.median)
    assert compute.machine_macs_per_s == result.roofline.float32_macs_per_s
    assert compute.share == compute.used_macs_per_s / result.roofline.float32_macs_per_s


def test_an_arithmetic_without_an_instruction_has_no_share(engine: FakeEngine) -> None:
    facts = replace(engine.facts, arithmetic="bfloat16")
    limits = Roofline(1, "x", 1e9, 4e9, None, 1e9)
    compute = Compute.of("prefill", facts, tokens_per_second=100.0, roofline=limits)
    assert (compute.machine_macs_per_s, compute.share) == (None, None)


def test_the_model_is_closed_even_when_it_fails(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    engine.lie = {"new_tokens": 0}
    with pytest.raises(BenchError):
        measure_generation(weights, lambda: engine, n_rounds=1, n_prompt_tokens=12, n_new_tokens=5, tell=tell)
    assert not engine.is_open
