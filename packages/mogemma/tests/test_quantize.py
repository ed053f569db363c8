"""Float weights brought to another format while a model is loaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from blocks import FLOATS, random_matrix, weights_of
from checkpoints import QUANT_ZOO
from encoders import TARGETS, encode
from models import aligned, alone, make_engine, make_model, packed, token_ids

from mogemma import EmbeddingModel, SyncGemmaModel, session
from mogemma._native import FloatsAs, SequenceRun
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
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda kind: kind.name)
LAYOUTS = ("MOGEMMA_STORED", "MOGEMMA_PACKED")
ROWS = (1, 16, 33, 40)


@pytest.fixture(scope="module", params=[1, 3])
def engine(level: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = make_engine(level=level, n_threads=request.param)
    yield made
    made.close()


def sizes(target: TensorType) -> list[tuple[int, int]]:
    """Odd numbers of rows, and of blocks in them."""
    step = max(target.block_weights, 32)
    return [(n_rows, n_steps * step) for n_rows, n_steps in zip(ROWS, (1, 2, 3, 5), strict=True)]


def as_type(target: TensorType, matrix: Mapping[str, Any]) -> dict[str, Any]:
    """The matrix in another format, by the plain encoder."""
    return {**matrix, "format": int(target), "data": encode(target, weights_of(matrix))}


def embedding(engine: Engine, ids: NDArray[np.int32]) -> Floats:
    vector: Floats = np.empty((1, engine.embedding_dim), np.float32)
    engine.forward([SequenceRun(ids)], embeddings=vector)
    return vector


def quantized(
    engine: Engine,
    matrix: Mapping[str, Any],
    target: TensorType,
    layout: str = "MOGEMMA_PACKED",
    slices: list[tuple[int, int]] | None = None,
) -> NDArray[np.uint8]:
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    stored: Any = ffi.new("mogemma_matrix *", {x: matrix[x] for x in ("n_rows", "n_columns", "format")})
    data = ffi.from_buffer(matrix["data"])
    stored.data = data
    to = getattr(lib, layout)
    memory = aligned(lib.mogemma_quantized_bytes(stored, int(target), to))
    buffer = ffi.from_buffer(memory)
    for first, n in slices or [(0, matrix["n_rows"])]:
        assert lib.mogemma_quantize(engine.handle._engine, stored, int(target), to, first, n, buffer) == 0
    return memory


def expected(engine: Engine, matrix: Mapping[str, Any], target: TensorType, layout: str) -> NDArray[np.uint8]:
    plain = as_type(target, matrix)
    found: NDArray[np.uint8] = (packed(engine, plain) if layout == "MOGEMMA_PACKED" else plain)["data"]
    return found.reshape(-1).view(np.uint8)


def wild(kind: TensorType, n_rows: int, n_columns: int) -> dict[str, Any]:
    """Blocks of zeros, of one number, of numbers below any float16 and of subnormal ones, of halves between two integers, of
    numbers all above or all below zero, and of one that stands out.
    """
    matrix = random_matrix(TensorType.F32, n_rows, n_columns)
    weights = weights_of(matrix).copy()
    weights[:, :32] *= np.array([0, 1e-12, 1e-30, 1e-40, 1], np.float32)[np.arange(n_rows) % 5, None]
    weights[::3, :32] = np.arange(-15.5, 16.5, dtype=np.float32)
    weights[::3, 31] = 127
    weights[1::3, 5] = 4096
    weights[2::7] = 0.75
    weights[3::7] = np.abs(weights[3::7]) + 3
    weights[4::7] = -np.abs(weights[4::7]) - 3
    weights[5::11] = 0
    return as_type(kind, {**matrix, "data": weights.view(np.uint8)})


@every_float
@every_target
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_become_what_the_plain_encoder_makes_of_them(
    engine: Engine, kind: TensorType, target: TensorType, layout: str
) -> None:
    """To the bit: packed, they are as if a file with such blocks had been packed."""
    for shape in sizes(target):
        for matrix in (random_matrix(kind, *shape), wild(kind, *shape)):
            assert np.array_equal(quantized(engine, matrix, target, layout), expected(engine, matrix, target, layout))


@every_target
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_can_be_quantised_some_at_a_time(engine: Engine, target: TensorType, layout: str) -> None:
    matrix = random_matrix(TensorType.F32, 65, 256)
    slices = [(48, 16), (0, 32), (64, 1), (32, 16)]
    assert np.array_equal(quantized(engine, matrix, target, layout, slices), quantized(engine, matrix, target, layout))


@every_target
def test_rows_are_written_to_any_place_and_not_a_byte_beyond(engine: Engine, target: TensorType) -> None:
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    matrix = random_matrix(TensorType.F32, 19, 256)
    wanted = encode(target, weights_of(matrix)).reshape(-1).view(np.uint8)
    data = ffi.from_buffer(matrix["data"])
    stored = ffi.new("mogemma_matrix *", {"data": data, "n_rows": 19, "n_columns": 256, "format": 0})
    for offset in (1, 2, 7):
        memory = np.full(len(wanted) + 64, 0xA5, np.uint8)
        place = ffi.from_buffer(memory) + offset
        assert lib.mogemma_quantize(engine.handle._engine, stored, int(target), lib.MOGEMMA_STORED, 0, 19, place) == 0
        assert np.array_equal(memory[offset : offset + len(wanted)], wanted)
        assert (memory[:offset] == 0xA5).all()
        assert (memory[offset + len(wanted) :] == 0xA5).all()


@pytest.mark.parametrize("target", ["Q8_0", "Q5_0", "Q4_0"])
def test_the_plain_encoder_makes_the_blocks_of_the_gguf_package(target: str) -> None:
    """Which are those of ggml's reference quantiser."""
    for matrix in (random_matrix(TensorType.F32, 33, 96), wild(TensorType.F32, 33, 96)):
        weights = weights_of(matrix)
        top = np.abs(weights[:, :32]).max(axis=1)
        weights = weights[(top > 1e-32) | (top == 0)]  # the package does not take subnormal scales
        theirs = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[target])
        assert np.array_equal(encode(TensorType[target], weights), theirs)


@pytest.mark.parametrize("target", [TensorType.Q4_K, TensorType.Q6_K, TensorType.Q5_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("spread", ["normal", "heavy", "offset"])
def test_the_error_is_that_of_ggmls_own_quantiser(
    engine: Engine, data_path: Path, target: TensorType, spread: str
) -> None:
    """ggml_blocks.npz holds weights (normal; Student's t with 2.5 degrees of freedom; normal around 3) and the blocks that
    ggml_quantize_chunk of llama.cpp makes of them, without an importance matrix (in llama-cpp-python 0.3.36).
    """
    with np.load(data_path / "ggml_blocks.npz") as arrays:
        weights, theirs = arrays[spread].astype(np.float32), arrays[f"{spread}_{target.name}"]
    matrix = {"n_rows": len(weights), "n_columns": weights.shape[1], "format": 0, "data": weights.view(np.uint8)}
    ours = quantized(engine, matrix, target, "MOGEMMA_STORED")
    errors = [
        np.square(weights_of({**matrix, "format": int(target), "data": blocks}) - weights, dtype=np.float64).mean()
        for blocks in (ours, theirs)
    ]
    assert np.sqrt(errors[0] / errors[1]) < 1.002


@every_target
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -3e38])
def test_a_weight_that_is_not_finite_or_would_not_be_is_refused(
    engine: Engine, target: TensorType, value: float
) -> None:
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    weights = weights_of(random_matrix(TensorType.F32, 33, 512)).copy()
    weights[32, 300] = value
    data = ffi.from_buffer(weights)
    stored = ffi.new("mogemma_matrix *", {"data": data, "n_rows": 33, "n_columns": 512, "format": 0})
    memory = ffi.from_buffer(aligned(weights.nbytes * 2))
    is_good = value == -3e38 and target in FLOATS and target is not TensorType.F16
    for layout in (lib.MOGEMMA_STORED, lib.MOGEMMA_PACKED):
        status = lib.mogemma_quantize(engine.handle._engine, stored, int(target), layout, 0, 33, memory)
        assert engine.kernel.status_name(status) == ("0" if is_good else "NOT_FINITE")
        assert lib.mogemma_quantize(engine.handle._engine, stored, int(target), layout, 0, 32, memory) == 0


@every_target
def test_the_largest_weights_that_are_taken_stay_finite(engine: Engine, target: TensorType) -> None:
    largest = {TensorType.F32: 3.4e38, TensorType.BF16: 3.3895e38, TensorType.F16: 65504, TensorType.Q8_0: 127 * 65504}
    most = np.float32(largest.get(target, {32: 8, 256: 15}[max(target.block_weights, 32)] * 65504))
    matrix = random_matrix(TensorType.F32, 16, 256)
    weights = np.sign(weights_of(matrix)) * most
    matrix = {**matrix, "data": weights.view(np.uint8)}
    blocks = quantized(engine, matrix, target, "MOGEMMA_STORED")
    found = weights_of({**matrix, "format": int(target), "data": blocks})
    assert np.isfinite(found).all()
    assert np.abs(found / weights - 1).max() < 0.15


def floats_as(target: TensorType) -> FloatsAs:
    return FloatsAs(layers=(target,), head=(target,), dense=(TensorType.BF16,))


@every_target
def test_a_model_quantised_on_load_is_the_quantised_model(level: str, target: TensorType) -> None:
    model = make_model(hidden_dim=256, mlp_dim=512, n_heads=4, head_dim=64, dense_dims=(96, 32))
    options: dict[str, Any] = {"level": level, "arithmetic": "MOGEMMA_INT8"}
    loaded = make_engine(model, **options)
    loaded.matrices.pack(lambda: None, floats_as=floats_as(target))
    layers = [
        {name: as_type(target, value) if isinstance(value, dict) else value for name, value in layer.items()}
        for layer in model["layers"]
    ]
    dense = [as_type(TensorType.BF16, matrix) for matrix in model["dense"]]  # whatever the layers become
    head = as_type(target, model["head"])
    other = make_engine({**model, "layers": layers, "head": head, "dense": dense}, **options)
    ids = token_ids(16)
    assert np.array_equal(alone(loaded, ids), alone(other, ids))
    assert np.array_equal(embedding(loaded, ids), embedding(other, ids))


def test_what_cannot_be_quantised_has_no_size_and_is_refused(engine: Engine) -> None:
    """Rows that are no whole blocks, quantised weights, and formats that there is no quantiser for."""
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    cases = (
        (TensorType.F32, 40, lib.MOGEMMA_Q8_0),
        (TensorType.F32, 40, lib.MOGEMMA_BF16),
        (TensorType.F32, 640, lib.MOGEMMA_Q4_K),
        (TensorType.F32, 640, lib.MOGEMMA_Q6_K),
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
        for layout in (lib.MOGEMMA_STORED, lib.MOGEMMA_PACKED):
            assert lib.mogemma_quantized_bytes(native, target, layout) == 0
            status = lib.mogemma_quantize(engine.handle._engine, native, target, layout, 0, 16, memory)
            assert engine.kernel.status_name(status) == "BAD_FORMAT"
    good = ffi.new("mogemma_matrix *", {"data": memory, "n_rows": 16, "n_columns": 64, "format": 0})
    for first, n_rows in ((8, 8), (-16, 16), (0, 0), (0, 17)):
        status = lib.mogemma_quantize(
            engine.handle._engine, good, lib.MOGEMMA_Q8_0, lib.MOGEMMA_PACKED, first, n_rows, memory
        )
        assert engine.kernel.status_name(status) == "BAD_ARGUMENT"
    assert lib.mogemma_quantized_bytes(good, lib.MOGEMMA_Q8_0, lib.MOGEMMA_PLANES) == 0


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
        {"quantize": "q6_k"},
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
    n_bytes = engine.matrices.packed_bytes()
    engine.matrices.pack(lambda: None, floats_as=floats_as(TensorType.Q8_0))
    assert engine.matrices.in_memory_bytes == n_bytes > 0
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
        with pytest.raises(ConfigError, match=r"quantize.*'q8_0', 'q6_k', 'q4_k', 'q4_0' or 'bf16'"):
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
        runner.engine.matrices.finish_packing()
        assert (runner.packed_bytes > 0, runner.is_short_of_memory) == (True, False)
    with monkeypatch.context() as little:
        little.setattr(session, "available_memory", lambda: 1000.0)
        model = SyncGemmaModel(path, arithmetic=arithmetic)
    with model:
        assert np.array_equal(model.logits(range(2, 40)), expected)
        mapped = model.info
    assert (mapped.packed_bytes, mapped.is_short_of_memory) == (0, True)
