"""Tensor types are as large as their formats say, and plain numbers come out exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import ml_dtypes
import numpy as np
import pytest

from mogemma.checkpoint.tensor import Tensor, TensorType
from mogemma.errors import UnsupportedModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data"


def tensor(kind: TensorType, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor("blk.0.attn_norm.weight", shape, kind, memoryview(data), Path("model.gguf"))


@pytest.mark.parametrize("kind", TensorType)
def test_block_sizes_are_those_of_the_gguf_package(kind: TensorType) -> None:
    assert (kind.block_weights, kind.block_bytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.name]]
    assert int(kind) == gguf.GGMLQuantizationType[kind.name]


def test_block_sizes_fit_the_golden_blocks() -> None:
    with np.load(DATA / "dequant.npz") as golden:
        for name in {key.rsplit("_", 1)[0] for key in golden} & set(TensorType.__members__):
            assert TensorType[name].n_bytes(golden[f"{name}_f32"].size) == golden[f"{name}_raw"].size


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorType.F32, np.float32), (TensorType.F16, np.float16), (TensorType.BF16, ml_dtypes.bfloat16)],
)
def test_to_float32_is_exact_and_has_the_shape(kind: TensorType, dtype: type) -> None:
    numbers: NDArray[Any] = np.array([[0.0, -0.0, 1.5], [-3.25e-3, 6e4, np.inf]]).astype(dtype)
    result = tensor(kind, (2, 3), numbers.tobytes()).to_float32()
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, numbers.astype(np.float32))


def test_to_float32_is_a_copy_that_outlives_the_file() -> None:
    norm = tensor(TensorType.F32, (2,), np.ones(2, np.float32).tobytes())
    result = norm.to_float32()
    norm.data.release()
    result += 1
    np.testing.assert_array_equal(result, [2, 2])


def test_to_float32_of_a_quantised_tensor_names_tensor_and_file() -> None:
    quantised = tensor(TensorType.Q8_0, (32,), bytes(34))
    with pytest.raises(UnsupportedModelError, match=r"model\.gguf.*blk\.0\.attn_norm\.weight.*Q8_0"):
        quantised.to_float32()
