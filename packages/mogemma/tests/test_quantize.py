"""Float weights brought to another format while a model is loaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blocks import FLOATS, random_matrix, weights_of
from checkpoints import QUANT_ZOO
from models import aligned, alone, make_engine, make_model, packed, token_ids
from products import bfloat16, q8_0

from mogemma import EmbeddingModel, SyncGemmaModel, session
from mogemma._native import SequenceRun
from mogemma.architectures import Architecture
from mogemma.checkpoint import TensorType, open_checkpoint
from mogemma.errors import ConfigError, OutOfMemoryError
from mogemma.session import Runner, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from blocks import Floats
    from numpy.typing import NDArray

    from mogemma._native import Engine
    from mogemma.config import Arithmetic

every_float = pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
SHAPES = ((1, 32), (16, 64), (33, 96), (40, 768))


@pytest.fixture(scope="module", params=[1, 3])
def engine(level: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = make_engine(level=level, n_threads=request.param)
    yield made
    made.close()


def as_q8_0(matrix: Mapping[str, Any]) -> dict[str, Any]:
    """The matrix in blocks of Q8_0, by the plain quantiser."""
    scale, q = q8_0(weights_of(matrix))
    raw = np.concatenate(
        [scale[..., None].view(np.uint8), q.reshape(*scale.shape, 32).astype(np.int8).view(np.uint8)], axis=-1
    )
    return {**matrix, "format": int(TensorType.Q8_0), "data": raw}


def as_bf16(matrix: Mapping[str, Any]) -> dict[str, Any]:
    upper = (bfloat16(weights_of(matrix)).view(np.uint32) >> 16).astype(np.uint16)
    return {**matrix, "format": int(TensorType.BF16), "data": upper.view(np.uint8)}


FORMATS = {"MOGEMMA_Q8_0": as_q8_0, "MOGEMMA_BF16": as_bf16}
every_format = pytest.mark.parametrize("target", FORMATS)


def embedding(engine: Engine, ids: NDArray[np.int32]) -> Floats:
    vector: Floats = np.empty((1, engine.embedding_dim), np.float32)
    engine.forward([SequenceRun(ids)], embeddings=vector)
    return vector


def quantized(
    engine: Engine, matrix: Mapping[str, Any], target: str, slices: list[tuple[int, int]] | None = None
) -> NDArray[np.uint8]:
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    stored: Any = ffi.new("mogemma_matrix *", {x: matrix[x] for x in ("n_rows", "n_columns", "format")})
    data = ffi.from_buffer(matrix["data"])
    stored.data = data
    memory = aligned(lib.mogemma_quantized_bytes(stored, getattr(lib, target)))
    buffer = ffi.from_buffer(memory)
    for first, n in slices or [(0, matrix["n_rows"])]:
        assert lib.mogemma_quantize(engine._engine, stored, getattr(lib, target), first, n, buffer) == 0
    return memory


def wild(kind: TensorType, n_rows: int, n_columns: int) -> dict[str, Any]:
    """Blocks of zeros, of numbers below any float16, of halves between two integers, and of one that stands out."""
    matrix = random_matrix(TensorType.F32, n_rows, n_columns)
    weights = weights_of(matrix).copy()
    weights[:, :32] *= np.array([0, 1e-12, 1e-30, 1], np.float32)[np.arange(n_rows) % 4, None]
    weights[::3, :32] = np.arange(-15.5, 16.5, dtype=np.float32)
    weights[::3, 31] = 127
    weights[1::3, 5] = 4096
    if kind is TensorType.F32:
        return {**matrix, "data": weights.view(np.uint8)}
    if kind is TensorType.BF16:
        return as_bf16({**matrix, "data": weights.view(np.uint8)})
    return {**matrix, "format": int(kind), "data": weights.astype(np.float16).view(np.uint8)}


@every_float
@every_format
def test_weights_become_what_the_plain_quantiser_makes_of_them(engine: Engine, kind: TensorType, target: str) -> None:
    """To the bit: packed, they are as if a file with such blocks had been packed."""
    for shape in SHAPES:
        for matrix in (random_matrix(kind, *shape), wild(kind, *shape)):
            expected = packed(engine, FORMATS[target](matrix))["data"]
            assert np.array_equal(quantized(engine, matrix, target), expected)


@every_format
def test_rows_can_be_quantised_some_at_a_time(engine: Engine, target: str) -> None:
    matrix = random_matrix(TensorType.F32, 65, 96)
    slices = [(48, 16), (0, 32), (64, 1), (32, 16)]
    assert np.array_equal(quantized(engine, matrix, target, slices), quantized(engine, matrix, target))


@every_format
def test_a_model_quantised_on_load_is_the_quantised_model(level: str, target: str) -> None:
    model = make_model(hidden_dim=64, mlp_dim=96, dense_dims=(96, 32))
    options: dict[str, Any] = {"level": level, "arithmetic": "MOGEMMA_INT8"}
    loaded = make_engine(model, **options)
    loaded.pack(lambda: None, floats_as=target)
    change = FORMATS[target]
    layers = [
        {name: change(value) if isinstance(value, dict) else value for name, value in layer.items()}
        for layer in model["layers"]
    ]
    dense = [as_bf16(matrix) for matrix in model["dense"]]  # whatever the layers become
    other = make_engine({**model, "layers": layers, "head": change(model["head"]), "dense": dense}, **options)
    ids = token_ids(16)
    assert np.array_equal(alone(loaded, ids), alone(other, ids))
    assert np.array_equal(embedding(loaded, ids), embedding(other, ids))


def test_what_cannot_be_quantised_has_no_size_and_is_refused(engine: Engine) -> None:
    """Rows that are no whole blocks, quantised weights, and formats that there is no quantiser for."""
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    cases = (
        (TensorType.F32, 40, lib.MOGEMMA_Q8_0),
        (TensorType.F32, 40, lib.MOGEMMA_BF16),
        (TensorType.Q4_0, 64, lib.MOGEMMA_Q8_0),
        (TensorType.Q8_0, 64, lib.MOGEMMA_Q8_0),
        (TensorType.F32, 64, lib.MOGEMMA_Q2_K),
        (TensorType.F32, 64, 99),
    )
    memory = ffi.new("char[]", 1 << 16)
    for kind, n_columns, target in cases:
        matrix = random_matrix(kind, 16, n_columns)
        data = ffi.from_buffer(matrix["data"])
        fields = {"data": data, "n_rows": 16, "n_columns": n_columns, "format": int(kind)}
        native = ffi.new("mogemma_matrix *", fields)
        assert lib.mogemma_quantized_bytes(native, target) == 0
        status = lib.mogemma_quantize(engine._engine, native, target, 0, 16, memory)
        assert engine.kernel.status_name(status) == "BAD_FORMAT"
    good = ffi.new("mogemma_matrix *", {"data": memory, "n_rows": 16, "n_columns": 64, "format": 0})
    for first, n_rows in ((8, 8), (-16, 16), (0, 0), (0, 17)):
        status = lib.mogemma_quantize(engine._engine, good, lib.MOGEMMA_Q8_0, first, n_rows, memory)
        assert engine.kernel.status_name(status) == "BAD_ARGUMENT"


# --- as an option of a model


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Runner]:
    with open_checkpoint(path) as checkpoint, Runner(checkpoint, threads=1, **options) as runner:
        yield runner


def logits(path: Path, **options: Any) -> Floats:
    with opened(path, **options) as runner:
        return Session(runner).logits([2, 7, 11, 3, 5])


@pytest.fixture
def gemma_path(data_path: Path) -> Path:
    return data_path / "tiny" / "gemma3-text"


@pytest.fixture
def embedder_path(data_path: Path) -> Path:
    return data_path / "tiny" / "embeddinggemma"


def test_the_default_leaves_float_weights_exact(gemma_path: Path) -> None:
    with opened(gemma_path) as runner:
        assert runner.quantize is None
        assert runner.packed_bytes == 0
    assert np.array_equal(logits(gemma_path), logits(gemma_path, arithmetic="float32"))


@pytest.mark.parametrize(
    "options",
    [
        {"quantize": "q8_0"},
        {"quantize": "bf16"},
        {"arithmetic": "bfloat16"},
        {"quantize": "bf16", "arithmetic": "bfloat16"},
        {"quantize": "q8_0", "arithmetic": "bfloat16"},
        {"quantize": "q8_0", "arithmetic": "float32"},
    ],
)
def test_every_combination_comes_near_the_exact_logits(gemma_path: Path, options: dict[str, Any]) -> None:
    exact, ours = logits(gemma_path), logits(gemma_path, **options)
    is_exact = options == {"quantize": "bf16"}  # which its weights are already
    assert np.array_equal(ours, exact) == is_exact
    assert np.corrcoef(ours.ravel(), exact.ravel())[0, 1] > 0.99


def test_bfloat16_arithmetic_rounds_weights_with_or_without_packing(gemma_path: Path) -> None:
    """Where memory is short they stay in the file, and the result the same."""
    expected = logits(gemma_path, arithmetic="bfloat16")
    assert np.array_equal(logits(gemma_path, arithmetic="bfloat16", pack=False), expected)
    assert np.array_equal(logits(gemma_path, arithmetic="bfloat16", quantize="bf16"), expected)


def test_quantised_weights_of_a_file_stay_as_they_are(level: str) -> None:
    model = make_model(hidden_dim=64, mlp_dim=96, kind=TensorType.Q4_0)
    engine = make_engine(model, level=level)
    expected = alone(engine, token_ids(5))
    n_bytes = engine.packed_bytes()
    engine.pack(lambda: None, floats_as="MOGEMMA_Q8_0")
    assert engine.in_memory_bytes == n_bytes > 0
    assert np.array_equal(alone(engine, token_ids(5)), expected)


def test_a_text_has_the_same_vector_alone_and_by_any_threads(embedder_path: Path) -> None:
    texts = [[2, *range(5, 5 + n), 1] for n in (1, 3, 9, 14)]
    for options in ({"quantize": "q8_0"}, {"arithmetic": "bfloat16"}):
        with EmbeddingModel(embedder_path, threads=1, **options) as model:
            together = model.embed(texts)
            assert all(np.array_equal(model.embed([text])[0], together[i]) for i, text in enumerate(texts))
        with EmbeddingModel(embedder_path, threads=2, **options) as model:
            assert np.array_equal(model.embed(texts), together)
            assert model.info.quantize == options.get("quantize")


@pytest.mark.parametrize("value", ["q4", "Q8_0", 8, ""])
def test_another_format_is_refused_with_those_there_are(gemma_path: Path, value: object) -> None:
    for load in (SyncGemmaModel, EmbeddingModel):
        with pytest.raises(ConfigError, match=r"quantize.*'q8_0' or 'bf16'"):
            load(gemma_path, quantize=value)


def test_weights_that_do_not_fit_are_refused(gemma_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would give the memory, and end the process when it is used."""
    monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
    for quantize in ("q8_0", "bf16"):
        with pytest.raises(OutOfMemoryError, match=rf"quantize='{quantize}' would keep .* MB of weights in memory"):
            SyncGemmaModel(gemma_path, quantize=quantize, arithmetic="bfloat16")


@pytest.mark.parametrize("arithmetic", ["int8", "bfloat16"])
def test_weights_that_nobody_insists_on_packing_stay_in_the_file_and_give_the_same(
    arithmetic: Arithmetic, gemma_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Architecture, "is_quantised", True)  # but for a few layers the file is
    path = QUANT_ZOO / "model.gguf" if arithmetic == "int8" else gemma_path
    with open_checkpoint(path) as checkpoint, Runner(checkpoint, arithmetic=arithmetic) as runner:
        expected = Session(runner).logits(range(2, 40))
        runner.engine.finish_packing()
        assert (runner.packed_bytes > 0, runner.is_short_of_memory) == (True, False)
    monkeypatch.setattr(session, "available_memory", lambda: 1000.0)
    with SyncGemmaModel(path, arithmetic=arithmetic) as model:
        assert np.array_equal(model.logits(range(2, 40)), expected)
        mapped = model.info
    assert (mapped.packed_bytes, mapped.is_short_of_memory) == (0, True)
