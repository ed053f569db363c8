"""Weights packed in the background: after some calls, and never to be seen in what they compute."""

from __future__ import annotations

import threading

import numpy as np
from models import alone, make_engine, make_model, token_ids

from mogemma._native import Engine
from mogemma._native.packing import CALLS_BEFORE_PACKING
from mogemma.checkpoint import TensorType


def packing_engine(level: str | None = None) -> Engine:
    engine = make_engine(make_model(hidden_dim=64, mlp_dim=96, kind=TensorType.Q4_0), level=level)
    engine.matrices.pack_later(lambda: None)
    return engine


def test_a_first_call_does_not_wait_for_it_and_later_ones_give_the_same_bits(level: str) -> None:
    engine = packing_engine(level)
    n_bytes = engine.matrices.packed_bytes()
    assert engine.matrices.in_memory_bytes == 0
    expected = alone(engine, token_ids(9))
    for _ in range(CALLS_BEFORE_PACKING + 5):
        assert np.array_equal(alone(engine, token_ids(9)), expected)
    engine.matrices.finish_packing()
    assert engine.matrices.in_memory_bytes == n_bytes > 0
    assert np.array_equal(alone(engine, token_ids(9)), expected)


def test_an_engine_may_be_closed_while_it_packs() -> None:
    for _ in range(30):
        engine = packing_engine()
        for _ in range(CALLS_BEFORE_PACKING):
            alone(engine, token_ids(2))
        engine.close()
        engine.matrices.finish_packing()
    assert not [thread for thread in threading.enumerate() if thread.name == "mogemma-pack"]


def test_each_slice_gives_its_stored_bytes_back() -> None:
    engine = make_engine(make_model(hidden_dim=64, mlp_dim=96, kind=TensorType.Q4_0))
    slices: list[int] = []
    engine.matrices.pack_later(lambda: slices.append(1))
    engine.matrices.finish_packing()
    assert len(slices) >= 7, "a layer has seven matrices"
