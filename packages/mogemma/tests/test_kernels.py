"""The kernels against plain loops: every weight format, both arithmetics, odd sizes, at every CPU level."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blocks import FLOATS, QUANTISED, parts_of, random_matrix, weights_of
from models import make_engine, make_model, packed
from products import fma, int8_product, quantised

from mogemma._native import Engine, dequantize, load_kernel
from mogemma.checkpoint import TensorType
from mogemma.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocks import Floats

ROWS = (1, 3, 15, 16, 17, 31, 32, 33, 65)
TOKENS = (1, 2, 3, 5, 6, 7, 12, 13, 17)
MOST_COLUMNS = 1280
COLUMNS = {1: (1, 7, 31, 32, 40, 640, 770, 1152), 32: (32, 64, 640, 800, 1152), 256: (256, 768, 1280)}
"""By the weights of a block. A panel of a product is 256 columns of floats, or 768 of quantised weights."""

every_format = pytest.mark.parametrize("kind", list(TensorType), ids=lambda kind: kind.name)
every_quantised_format = pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)


class Engines:
    """Engines of one level that multiply, opened when they are asked for."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._open: dict[tuple[str, int], Engine] = {}

    def __call__(self, arithmetic: str, n_threads: int = 1) -> Engine:
        key = (arithmetic, n_threads)
        if key not in self._open:
            self._open[key] = make_engine(
                make_model(mlp_dim=MOST_COLUMNS, n_layers=1),
                level=self._level,
                arithmetic=f"MOGEMMA_{arithmetic}",
                n_threads=n_threads,
                max_tokens=TOKENS[-1],
            )
        return self._open[key]

    def close(self) -> None:
        for engine in self._open.values():
            engine.close()


@pytest.fixture(scope="module")
def engines(level: str) -> Iterator[Engines]:
    made = Engines(level)
    yield made
    made.close()


def activations(n_tokens: int, n_columns: int) -> Floats:
    """Normal numbers, and one in fifty that stands far out, as in a language model."""
    rng = np.random.default_rng([n_tokens, n_columns])
    x = rng.standard_normal((n_tokens, n_columns), np.float32)
    x[rng.random(x.shape) < 0.02] *= 40
    return x


def first_rows(matrix: dict[str, Any], n_rows: int) -> dict[str, Any]:
    size = len(bytes(matrix["data"])) // matrix["n_rows"] * n_rows
    return {**matrix, "n_rows": n_rows, "data": np.frombuffer(bytes(matrix["data"]), np.uint8)[:size].copy()}


@cache
def cases(kind: TensorType) -> list[tuple[dict[str, Any], Floats, Floats]]:
    """For each number of columns: 65 rows, 17 tokens, and the exact product (float64, rounded)."""
    made = []
    for n_columns in COLUMNS[kind.block_weights]:
        matrix = random_matrix(kind, ROWS[-1], n_columns)
        x = activations(TOKENS[-1], n_columns)
        made.append((matrix, x, weights_of(matrix)))
    return made


@cache
def int8_results(kind: TensorType) -> list[Floats]:
    return [int8_product(parts_of(matrix), x) for matrix, x, _ in cases(kind)]


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
def test_a_stored_block_gives_the_weights_that_the_reference_reads(
    level: str, kind: TensorType, data_path: Path
) -> None:
    """The goldens come from the gguf package; blocks.py, which other tests trust, is held to them as well."""
    with np.load(data_path / "dequant.npz") as goldens:
        raw, expected = goldens[f"{kind.name}_raw"], goldens[f"{kind.name}_f32"]
    matrix = {"data": raw, "n_rows": 1, "n_columns": expected.size, "format": int(kind)}
    assert np.array_equal(dequantize(matrix, 0, level=level), expected[0])
    assert np.array_equal(weights_of(matrix), expected)


@every_format
def test_every_row_of_every_shape_is_dequantised_exactly(level: str, kind: TensorType) -> None:
    for n_columns in COLUMNS[kind.block_weights]:
        matrix = random_matrix(kind, 3, n_columns)
        rows = [dequantize(matrix, row, level=level) for row in range(3)]
        assert np.array_equal(rows, weights_of(matrix))


@every_format
def test_any_bytes_are_dequantised_exactly(level: str, kind: TensorType) -> None:
    """Scales that are huge, subnormal, zero or negative are numbers like others."""
    matrix = random_matrix(kind, 40, 512, is_wild=True)
    rows = [dequantize(matrix, row, level=level) for row in range(40)]
    assert np.array_equal(rows, weights_of(matrix))


@every_format
def test_float32_products_are_exact_to_rounding(engines: Engines, kind: TensorType) -> None:
    """One rounding of 2**-24 for each column: the error is within n * 2**-24 * sum |w * x|."""
    engine = engines("FLOAT32")
    for matrix, x, weights in cases(kind):
        exact = x.astype(np.float64) @ weights.T.astype(np.float64)
        bound = (x.shape[1] + 1) * 2.0**-24 * (np.abs(x).astype(np.float64) @ np.abs(weights).T)
        for n_rows in ROWS:
            for n_tokens in TOKENS:
                y = engine.matmul(first_rows(matrix, n_rows), x[:n_tokens])
                assert np.all(np.abs(y - exact[:n_tokens, :n_rows]) <= bound[:n_tokens, :n_rows])


@every_format
def test_float32_products_add_up_column_by_column(engines: Engines, kind: TensorType) -> None:
    """The order is fixed, and each step rounds once: so all levels and all groupings give the same bits."""
    matrix, x, weights = cases(kind)[2]
    expected = np.zeros((len(x), len(weights)), np.float32)
    for column in range(x.shape[1]):
        expected = fma(x[:, column, None], weights[:, column], expected)
    assert np.array_equal(engines("FLOAT32").matmul(matrix, x), expected)


@every_quantised_format
def test_int8_products_are_the_plain_loop_to_the_bit(engines: Engines, kind: TensorType) -> None:
    """At every level: however an instruction set takes its dot products, they are exact."""
    engine = engines("INT8")
    for (matrix, x, _), expected in zip(cases(kind), int8_results(kind), strict=True):
        for n_rows in ROWS:
            for n_tokens in TOKENS:
                y = engine.matmul(first_rows(matrix, n_rows), x[:n_tokens])
                assert np.array_equal(y, expected[:n_tokens, :n_rows])


@every_quantised_format
def test_int8_activations_cost_at_most_half_a_step_each(engines: Engines, kind: TensorType) -> None:
    """A step is max |x| / 127 of 32 activations; what the weights do with half of one bounds the error."""
    for matrix, x, weights in cases(kind):
        exact = x.astype(np.float64) @ weights.T.astype(np.float64)
        half_steps = np.repeat(quantised(x)[1], 32, axis=1).astype(np.float64) / 2
        rounding = x.shape[1] * 2.0**-22 * (np.abs(x).astype(np.float64) @ np.abs(weights).T)
        bound = half_steps @ np.abs(weights).T * (1 + 1e-5) + rounding
        assert np.all(np.abs(engines("INT8").matmul(matrix, x) - exact) <= bound)


@pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
def test_float_weights_are_multiplied_in_float32_in_either_arithmetic(engines: Engines, kind: TensorType) -> None:
    matrix, x, _ = cases(kind)[3]
    assert np.array_equal(engines("INT8").matmul(matrix, x), engines("FLOAT32").matmul(matrix, x))


@every_format
@pytest.mark.parametrize("arithmetic", ["INT8", "FLOAT32"])
def test_a_token_gets_the_same_result_alone_as_among_others(
    engines: Engines, kind: TensorType, arithmetic: str
) -> None:
    engine, (matrix, x, _) = engines(arithmetic), cases(kind)[-1]
    together = engine.matmul(matrix, x)
    for token in range(len(x)):
        assert np.array_equal(engine.matmul(matrix, x[token : token + 1])[0], together[token])


@every_format
@pytest.mark.parametrize("arithmetic", ["INT8", "FLOAT32"])
def test_any_number_of_threads_gives_the_same_bits(engines: Engines, kind: TensorType, arithmetic: str) -> None:
    matrix, x, _ = cases(kind)[-1]
    alone = engines(arithmetic, 1).matmul(matrix, x)
    for n_threads in (2, 3):
        assert np.array_equal(engines(arithmetic, n_threads).matmul(matrix, x), alone)


EXTREMES: dict[str, Callable[[Floats], Any]] = {
    "zeros": lambda x: 0 * x,
    "negative zeros": lambda x: -0.0 * np.abs(x),
    "all the same": lambda x: 0 * x + np.float32(0.1),
    "huge": lambda x: np.sign(x) * np.float32(1e30),
    "tiny": lambda x: x * np.float32(1e-28),
    "below the least scale": lambda x: np.clip(x, -1, 1) * np.float32(1e-31),
    "subnormal": lambda x: x * np.float32(1e-42),
    "one outlier in each 32": lambda x: np.where(np.arange(x.shape[1]) % 32 == 7, np.float32(1e6), x),
    "halves between integers": lambda x: np.where(np.arange(x.shape[1]) % 32 == 0, np.float32(127), np.round(x) + 0.5),
    "ones of either sign": lambda x: np.where(x < 0, np.float32(-1), np.float32(1)),
}


@pytest.mark.parametrize("name", EXTREMES)
@every_quantised_format
def test_extreme_activations_are_the_plain_loop_to_the_bit(engines: Engines, kind: TensorType, name: str) -> None:
    matrix = random_matrix(kind, 33, 512)
    x = EXTREMES[name](activations(7, 512)).astype(np.float32)
    assert np.array_equal(engines("INT8").matmul(matrix, x), int8_product(parts_of(matrix), x))


@every_quantised_format
def test_extreme_weights_are_the_plain_loop_to_the_bit(engines: Engines, kind: TensorType) -> None:
    """Any scale that float16 holds; no intermediate sum saturates where the result does not."""
    matrix = random_matrix(kind, 33, 512, is_wild=True)
    x = activations(7, 512)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = int8_product(parts_of(matrix), x)
    assert np.array_equal(engines("INT8").matmul(matrix, x), expected, equal_nan=True)


@pytest.mark.parametrize("byte", [0x80, 0x7F, 0x81])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_greatest_and_least_bytes_do_not_saturate(engines: Engines, byte: int, sign: int) -> None:
    """-128 has no positive counterpart in 8 bits, and 16-bit pairs of products overflow first here."""
    matrix = random_matrix(TensorType.Q8_0, 17, 64)
    matrix["data"][..., 2:] = byte
    x = np.full((3, 64), sign, np.float32)
    assert np.array_equal(engines("INT8").matmul(matrix, x), int8_product(parts_of(matrix), x))


@every_format
def test_weights_are_read_at_any_alignment_and_not_beyond_their_end(engines: Engines, kind: TensorType) -> None:
    """Safetensors promises no alignment, and the last matrix of a file may end with its last page."""
    n_columns = COLUMNS[kind.block_weights][0]
    matrix = random_matrix(kind, 5, n_columns)
    x = activations(2, n_columns)
    raw = np.frombuffer(bytes(matrix["data"]), np.uint8)
    for arithmetic in ("INT8", "FLOAT32"):
        engine = engines(arithmetic)
        expected = engine.matmul(matrix, x)
        for shift in (1, 2, 3, 5):
            moved = np.zeros(len(raw) + shift, np.uint8)
            moved[shift:] = raw
            assert np.array_equal(engine.matmul({**matrix, "data": moved[shift:]}, x), expected)


# --- packed matrices


def can_be_packed(kind: TensorType, n_columns: int) -> bool:
    return kind not in FLOATS or n_columns % 32 == 0


@every_format
@pytest.mark.parametrize("arithmetic", ["INT8", "FLOAT32"])
def test_a_packed_matrix_gives_the_same_bits(engines: Engines, kind: TensorType, arithmetic: str) -> None:
    engine = engines(arithmetic)
    for matrix, x, _ in cases(kind):
        if can_be_packed(kind, x.shape[1]):
            for n_rows in ROWS:
                stored = first_rows(matrix, n_rows)
                ordered = packed(engine, stored)
                for n_tokens in (1, 2, 17):
                    assert np.array_equal(engine.matmul(ordered, x[:n_tokens]), engine.matmul(stored, x[:n_tokens]))


@every_format
def test_a_matrix_can_be_packed_some_rows_at_a_time_by_any_threads(engines: Engines, kind: TensorType) -> None:
    matrix, _, _ = cases(kind)[-1]
    whole = packed(engines("INT8"), matrix)["data"]
    slices = [(48, 16), (0, 32), (64, 1), (32, 16)]
    assert np.array_equal(packed(engines("INT8", 3), matrix, slices)["data"], whole)


@every_format
def test_packing_takes_about_the_bytes_that_the_matrix_has(engines: Engines, kind: TensorType) -> None:
    """To whole groups of 16 rows and cache lines; a block of 17 bytes takes 18."""
    matrix = random_matrix(kind, 64, 1280)
    n_bytes = len(packed(engines("INT8"), matrix)["data"])
    assert n_bytes <= len(bytes(matrix["data"])) * 18 / 17 + 4 * 64


@pytest.mark.parametrize(
    ("first", "n_rows", "status"),
    [
        (-16, 16, "BAD_ARGUMENT"),
        (8, 8, "BAD_ARGUMENT"),
        (0, 0, "BAD_ARGUMENT"),
        (0, 41, "BAD_ARGUMENT"),
        (48, 1, "BAD_ARGUMENT"),
    ],
)
def test_rows_that_cannot_be_packed_are_refused(engines: Engines, first: int, n_rows: int, status: str) -> None:
    engine = engines("INT8")
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    matrix = random_matrix(TensorType.Q8_0, 40, 64)
    data = ffi.from_buffer(matrix["data"])
    native = ffi.new("mogemma_matrix *", {"data": data, "n_rows": 40, "n_columns": 64, "format": 8})
    memory = ffi.new("char[]", lib.mogemma_packed_bytes(native, lib.MOGEMMA_PACKED))
    done = lib.mogemma_pack(engine.handle._engine, native, lib.MOGEMMA_PACKED, first, n_rows, memory)
    assert engine.kernel.status_name(done) == status


@pytest.mark.parametrize(("n_columns", "kind", "n_bytes"), [(40, TensorType.F32, 0), (33, TensorType.BF16, 0)])
def test_rows_of_floats_that_are_no_whole_tiles_stay_as_they_are(
    level: str, n_columns: int, kind: TensorType, n_bytes: int
) -> None:
    kernel = load_kernel(level)
    data = kernel.ffi.new("char[]", 4 * n_columns)
    fields = {"data": data, "n_rows": 1, "n_columns": n_columns, "format": int(kind)}
    matrix = kernel.ffi.new("mogemma_matrix *", fields)
    assert kernel.lib.mogemma_packed_bytes(matrix, kernel.lib.MOGEMMA_PACKED) == n_bytes


def test_a_row_of_a_packed_matrix_is_not_looked_up(engines: Engines, level: str) -> None:
    """Its bytes are elsewhere: the wrong ones would come out."""
    matrix = packed(engines("INT8"), random_matrix(TensorType.Q8_0, 16, 32))
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        dequantize(matrix, 0, level=level)
