"""Calls that cannot be: refused, with nothing computed and nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models import VOCAB, alone, make_engine, make_model, token_ids

from mogemma._native import Engine, SequenceRun
from mogemma.errors import KernelError, ModelFormatError

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize(
    ("tokens", "changes", "status"),
    [
        ([], {}, "BAD_ARGUMENT"),
        ([1], {"n_outputs": 2}, "BAD_ARGUMENT"),
        ([1], {"n_outputs": -1}, "BAD_ARGUMENT"),
        ([1], {"position": -1}, "BAD_ARGUMENT"),
        ([1], {"position": 1}, "BAD_ARGUMENT"),  # without a cache
        ([1] * 17, {}, "BAD_ARGUMENT"),
        ([-1], {}, "BAD_TOKEN"),
        ([1, VOCAB], {}, "BAD_TOKEN"),
        ([2**31 - 1], {}, "BAD_TOKEN"),
        ([-(2**31)], {}, "BAD_TOKEN"),
    ],
)
def test_a_sequence_that_cannot_be_is_refused_and_nothing_computed(
    engine: Engine, tokens: list[int], changes: dict[str, Any], status: str
) -> None:
    logits = np.full((2, VOCAB), 7, np.float32)
    run = SequenceRun(np.array(tokens, np.int32), **changes)
    with pytest.raises(KernelError, match=status):
        engine.forward([run], logits=logits)
    assert np.all(logits == 7)


@pytest.mark.parametrize("position", [60, 64, 2**31 - 1])
def test_tokens_that_pass_the_context_are_refused_and_nothing_computed(engine: Engine, position: int) -> None:
    cache = engine.new_cache()
    run = SequenceRun(token_ids(5), cache, position, n_outputs=1)
    logits = np.full((1, VOCAB), 7, np.float32)
    with pytest.raises(KernelError, match="CONTEXT_FULL"):
        engine.forward([run], logits=logits)
    assert np.all(logits == 7)


def test_a_batch_that_does_not_fit_is_refused(engine: Engine) -> None:
    run = SequenceRun(token_ids(8), n_outputs=8)
    for runs in ([], [run, run, run]):
        with pytest.raises(KernelError, match="BAD_ARGUMENT"):
            engine.forward(runs, logits=np.empty((24, VOCAB), np.float32))


def test_outputs_without_a_place_for_logits_are_refused(engine: Engine) -> None:
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        engine.forward([SequenceRun(token_ids(2), n_outputs=1)])


def test_more_rows_of_results_than_options_say_are_refused(level: str) -> None:
    engine = make_engine(make_model(dense_dims=(16,)), level=level, max_outputs=2)
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        alone(engine, token_ids(3))
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        engine.forward([SequenceRun(token_ids(2))] * 3, embeddings=np.empty((3, 16), np.float32))


def test_a_sequence_that_sees_both_ways_comes_whole(level: str) -> None:
    engine = make_engine(make_model(n_after=3), level=level)
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        engine.forward([SequenceRun(token_ids(2), engine.new_cache(), 1)])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"n_rows": 0}, "BAD_ARGUMENT"),
        ({"n_columns": 65}, "BAD_ARGUMENT"),  # wider than any matrix of the model: its scratch memory is too small
        ({"n_columns": 0}, "BAD_ARGUMENT"),
        ({"data": None}, "BAD_MODEL"),
        ({"layout": 3}, "BAD_MODEL"),
        ({"format": 8}, "BAD_FORMAT"),
        ({"format": 99}, "BAD_FORMAT"),
    ],
)
def test_a_product_that_cannot_be_is_refused(engine: Engine, changes: dict[str, Any], status: str) -> None:
    matrix = {**make_model()["layers"][0]["q_proj"], **changes}
    with pytest.raises(KernelError, match=status):
        engine.matmul(matrix, np.zeros((1, 48), np.float32))


def test_damaged_weights_make_an_error_and_no_embedding(level: str) -> None:
    model = make_model(dense_dims=(16,))
    model["final_norm"][3] = np.nan
    engine = make_engine(model, level=level)
    with pytest.raises(ModelFormatError, match="damaged"):
        engine.forward([SequenceRun(token_ids(4))], embeddings=np.empty((1, 16), np.float32))
