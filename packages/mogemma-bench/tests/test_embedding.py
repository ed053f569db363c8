from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mogemma_bench.embedding import QUERY, TEXTS_PER_CALL, measure_embedding
from mogemma_bench.errors import OptionError

if TYPE_CHECKING:
    from conftest import FakeEngine

Tell = Callable[[str], None]


def test_each_round_embeds_one_batch_of_equal_texts_and_one_query(
    engine: FakeEngine, weights: Path, tell: Tell
) -> None:
    result = measure_embedding(weights, lambda: engine, n_rounds=3, n_text_tokens=20, tell=tell)
    assert [len(batch) for batch in engine.batches] == [TEXTS_PER_CALL, 1] * 4  # with the warm-up
    assert len(set(engine.batches[0])) == TEXTS_PER_CALL
    assert {engine.count_tokens(text) for text in engine.batches[0]} == {20}
    figures = result.embedding
    assert (figures.texts, figures.tokens) == (TEXTS_PER_CALL, 20 * TEXTS_PER_CALL)
    assert figures.tokens_per_second.median == pytest.approx(20 * figures.texts_per_second.median)
    assert len(figures.query_seconds.samples) == 3


def test_query_bandwidth_is_the_layers_once_and_no_head(engine: FakeEngine, weights: Path, tell: Tell) -> None:
    engine.facts = replace(engine.facts, layer_bytes=50_000)
    result = measure_embedding(weights, lambda: engine, n_rounds=1, n_text_tokens=20, tell=tell)
    assert result.bandwidth.bytes_per_token == round(50_000 / engine.count_tokens(QUERY))
    assert result.bandwidth.used_bytes_per_s == pytest.approx(50_000 / result.embedding.query_seconds.median)


@pytest.mark.parametrize(
    ("family", "vectors"), [("embeddinggemma", "embedding model"), ("gemma3", "pooled hidden states")]
)
def test_the_result_says_where_the_vectors_come_from(
    engine: FakeEngine, weights: Path, tell: Tell, family: str, vectors: str
) -> None:
    engine.facts = replace(engine.facts, family=family)
    result = measure_embedding(weights, lambda: engine, n_rounds=1, n_text_tokens=20, tell=tell)
    assert result.model.vectors == vectors


def test_texts_longer_than_the_context_are_refused_before_they_are_written(
    engine: FakeEngine, weights: Path, tell: Tell
) -> None:
    """A billion tokens would not fit into memory as text either."""
    with pytest.raises(OptionError, match="holds 64 tokens"):
        measure_embedding(weights, lambda: engine, n_rounds=1, n_text_tokens=10**9, tell=tell)
    assert not engine.is_open
