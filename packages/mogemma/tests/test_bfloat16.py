"""Float weights in bfloat16 arithmetic against a plain loop, at every CPU level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blocks import FLOATS, parts_of, random_matrix, weights_of
from models import alone, make_engine, make_model, packed, token_ids
from products import bfloat16_product, int8_product

from mogemma.checkpoint import TensorType
from mogemma.weight_types import WEIGHT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks import Floats

    from mogemma._native import Engine

ROWS = range(1, 41)
TOKENS = 30
COLUMNS = (1, 2, 7, 31, 32, 33, 40, 64, 512, 544, 770, 1152)
"""A panel is 512 columns."""

every_float = pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module", params=[1, 2, 3])
def engine(level: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    model = make_model(mlp_dim=COLUMNS[-1], n_layers=1)
    options = {"n_threads": request.param, "max_tokens": TOKENS}
    made = make_engine(model, level=level, arithmetic="MOGEMMA_BFLOAT16", **options)
    yield made
    made.close()


def case(kind: TensorType, n_columns: int, n_rows: int = ROWS[-1]) -> tuple[dict[str, Any], Floats]:
    x = np.random.default_rng(n_columns).standard_normal((TOKENS, n_columns), np.float32)
    return random_matrix(kind, n_rows, n_columns), x


@every_float
def test_products_are_the_plain_loop_to_the_bit(engine: Engine, kind: TensorType) -> None:
    """With the instruction and without it: where nothing is subnormal all levels agree."""
    for n_columns in COLUMNS:
        matrix, x = case(kind, n_columns)
        assert np.array_equal(engine.matmul(matrix, x), bfloat16_product(weights_of(matrix), x))


@every_float
@pytest.mark.parametrize("n_columns", [40, 544])
def test_any_number_of_rows_and_tokens_gives_the_same_bits(engine: Engine, kind: TensorType, n_columns: int) -> None:
    matrix, x = case(kind, n_columns)
    expected = bfloat16_product(weights_of(matrix), x)
    size = len(bytes(matrix["data"])) // matrix["n_rows"]
    for n_rows in ROWS:
        data = np.frombuffer(bytes(matrix["data"]), np.uint8)[: size * n_rows].copy()
        part = {**matrix, "n_rows": n_rows, "data": data}
        assert np.array_equal(engine.matmul(part, x), expected[:, :n_rows])
        if n_columns % 32 == 0:
            assert np.array_equal(engine.matmul(packed(engine, part), x), expected[:, :n_rows])
    ordered = packed(engine, matrix) if n_columns % 32 == 0 else matrix
    for n_tokens in range(1, TOKENS + 1):
        assert np.array_equal(engine.matmul(ordered, x[:n_tokens]), expected[:n_tokens])


@pytest.mark.parametrize("n_threads", [1, 2])
def test_more_tokens_than_are_multiplied_at_once_give_the_same_bits(level: str, n_threads: int) -> None:
    """240 tokens meet a stretch of rows before the next do."""
    model = make_model(mlp_dim=64, n_layers=1)
    many = make_engine(model, level=level, arithmetic="MOGEMMA_BFLOAT16", n_threads=n_threads, max_tokens=500)
    matrix = random_matrix(TensorType.BF16, 200, 64)
    x = np.random.default_rng(1).standard_normal((500, 64), np.float32)
    expected = bfloat16_product(weights_of(matrix), x)
    for n_tokens in (239, 240, 241, 253, 480, 500):
        assert np.array_equal(many.matmul(matrix, x[:n_tokens]), expected[:n_tokens])
        assert np.array_equal(many.matmul(packed(many, matrix), x[:n_tokens]), expected[:n_tokens])
    many.close()


def test_halves_are_rounded_to_the_even_neighbour_and_nan_stays(engine: Engine) -> None:
    """1 + 2**-8 lies between two; the greatest float32 rounds to infinity, a NaN of all ones must not to zero."""
    matrix = {**random_matrix(TensorType.F32, 1, 1), "data": np.ones((1, 1), np.float32).view(np.uint8)}
    x = np.array([[1 + 2**-8], [1 + 3 * 2**-8], [3.4e38], [np.nan], [-0.0]], np.float32)
    x[3] = np.array([0x7FFFFFFF], np.uint32).view(np.float32)
    y = engine.matmul(matrix, x)[:, 0]
    assert y[0] == 1
    assert y[1] == 1 + 2**-6
    assert np.isposinf(y[2])
    assert np.isnan(y[3])
    assert y[4] == 0


@pytest.mark.parametrize("kind", [TensorType.Q8_0, TensorType.Q4_K], ids=lambda kind: kind.name)
def test_quantised_weights_keep_int8_arithmetic(engine: Engine, kind: TensorType) -> None:
    matrix, x = case(kind, 512)
    assert np.array_equal(engine.matmul(matrix, x), int8_product(parts_of(matrix), x))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_model_gives_the_same_bits_stored_and_packed_alone_and_in_chunks(level: str, n_threads: int) -> None:
    model = make_model(hidden_dim=64, mlp_dim=96)
    ids = token_ids(16)
    options: dict[str, Any] = {"level": level, "n_threads": n_threads, "arithmetic": "MOGEMMA_BFLOAT16"}
    stored = make_engine(model, **options)
    ordered = make_engine(model, **options)
    ordered.matrices.pack(lambda: None, floats_as=WEIGHT_TYPES["bf16"])
    assert ordered.matrices.in_memory_bytes > 0
    expected = alone(stored, ids)
    assert np.array_equal(alone(ordered, ids), expected)
    for n in (1, 5, 13):
        assert np.array_equal(alone(ordered, ids[:n]), expected[:n])
    assert not np.array_equal(expected, alone(make_engine(model, level=level), ids))
