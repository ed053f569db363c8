from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from mogemma_bench.errors import BenchError
from mogemma_bench.workloads.decode import decode
from mogemma_bench.workloads.embed import EmbedSample, embed
from mogemma_bench.workloads.load import load
from mogemma_bench.workloads.prefill import prefill

if TYPE_CHECKING:
    from conftest import FakeEngine

PROMPT = "x" * 36
"""10 tokens of the fake engine."""


def test_prefill_counts_the_prompt_against_its_own_seconds(engine: FakeEngine) -> None:
    engine.lie = {"prefill_seconds": 0.0005, "first_token_seconds": 0.0007}
    sample = prefill(engine, PROMPT, 10)
    assert sample.tokens_per_second == pytest.approx(20_000)
    assert sample.first_token_seconds == 0.0007


def test_prefill_does_not_count_tokens_that_were_in_a_cache(engine: FakeEngine) -> None:
    engine.lie = {"prefill_seconds": 0.0005, "cached_tokens": 1}
    assert prefill(engine, PROMPT, 10).tokens_per_second == pytest.approx(18_000)


def test_prefill_of_a_prompt_that_was_mostly_cached_is_refused(engine: FakeEngine) -> None:
    engine.lie = {"cached_tokens": 9}
    with pytest.raises(BenchError, match="9 of the prompt's 10 tokens in its cache"):
        prefill(engine, PROMPT, 10)


def test_decode_leaves_out_the_prefill_and_the_token_that_came_with_it(engine: FakeEngine) -> None:
    engine.lie = {"prefill_seconds": 0.0001, "decode_seconds": 0.0008}
    assert decode(engine, PROMPT, 10, 9).tokens_per_second == pytest.approx(10_000)


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ({"new_tokens": 3}, "Asked for 9 tokens after a prompt of 10, the model wrote 3 after 10"),
        ({"prompt_tokens": 11}, "wrote 9 after 11"),
        ({"decode_seconds": 60.0}, "Its clock is wrong"),
        ({"prefill_seconds": 0.0}, "Its clock is wrong"),
        ({"first_token_seconds": 60.0}, "Its clock is wrong"),
        ({"decode_seconds": 0.0}, "claims 0.0 s for 8 decode steps"),
    ],
)
def test_a_request_that_cannot_have_been_so_gives_no_figure(
    engine: FakeEngine, lie: dict[str, Any], complaint: str
) -> None:
    engine.lie = lie
    with pytest.raises(BenchError, match=complaint):
        decode(engine, PROMPT, 10, 9)


def test_embed_times_the_whole_call(engine: FakeEngine) -> None:
    start = time.perf_counter()
    sample = embed(engine, ["a", "b"], 7)
    assert 0.001 <= sample.seconds <= time.perf_counter() - start
    assert engine.batches == [["a", "b"]]


def test_embed_gives_texts_and_tokens_a_second() -> None:
    sample = EmbedSample(n_texts=4, n_tokens=100, seconds=0.5)
    assert (sample.texts_per_second, sample.tokens_per_second) == (8, 200)


def test_load_times_the_opening_and_nothing_after_it(engine: FakeEngine) -> None:
    def opening() -> FakeEngine:
        time.sleep(0.01)
        return engine

    opened, seconds = load(opening)
    assert opened is engine
    assert engine.is_open
    assert 0.009 <= seconds < 5
