"""Writes the file: keys, tensor descriptions, then one tensor after another, a few megabytes at a time.

The container is written by the `gguf` package of ggml's own authors (extra `quantize`); the blocks in it are the kernels'.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._native import Engine
from ..architectures import read_architecture
from ..errors import ConfigError
from .metadata import read_metadata
from .plan import Planned, plan_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    import gguf

    from ..architectures import Architecture
    from ..checkpoint import Checkpoint

_PIECE_BYTES = 8 << 20
"""What is read of a matrix before its blocks are written and its pages given back."""

_ROW_STEP = 16
"""Rows that the kernels encode together."""

_SIGNED_KEYS = frozenset({"general.sampling.top_k"})


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; sizes in bytes.

    Attributes:
        family: Which Gemma it is.
        formats: Tensors of each type.
        read_bytes: Weights that went in.
        written_bytes: Size of the file.
    """

    family: str
    formats: dict[str, int]
    n_tensors: int
    read_bytes: int
    written_bytes: int


def write_gguf(
    checkpoint: Checkpoint,
    path: Path,
    kind: str,
    *,
    threads: int,
    on_progress: Callable[[int, int], None] | None = None,
    on_plan: Callable[[int], None] | None = None,
) -> Written:
    """Write a model of float weights as a GGUF file.

    In memory at any time are the pages that were just read and a few megabytes of blocks.

    Args:
        checkpoint: Stays the caller's.
        path: Is overwritten. Whoever wants a whole file or none gives a temporary one, and renames it then.
        kind: A name in WEIGHT_TYPES.
        threads: Threads that encode.
        on_progress: Called with the megabytes of weights written and those there are.
        on_plan: Called before anything is written, with the bytes that the tensors will take.

    Raises:
        ConfigError: The `gguf` package is missing.
        UnsupportedModelError: Weights are quantised already, or the model cannot be said in GGUF.
        ModelFormatError: A weight is not finite, or the checkpoint contradicts itself.
        TokenizerError: The model has no tokenizer.
        OSError: The file cannot be written.
    """
    library = _library()
    architecture = read_architecture(checkpoint)
    planned = plan_tensors(checkpoint, architecture, kind)
    metadata = read_metadata(checkpoint, architecture, kind)
    total = sum(tensor.n_bytes for tensor in planned)
    if on_plan is not None:
        on_plan(total)
    n_done = 0

    def on_piece(n_bytes: int) -> None:
        nonlocal n_done
        n_done += n_bytes
        checkpoint.forget()
        if on_progress is not None:
            on_progress(n_done >> 20, total >> 20)

    with closing(_engine(architecture, threads)) as engine, closing(_begin(library, path, metadata, planned)) as writer:
        for tensor in planned:
            # The package asks of a tensor only that it knows its size and writes itself to a file.
            writer.write_tensor_data(_Blocks(tensor, engine, on_piece))  # type: ignore[arg-type]
    return Written(
        family=architecture.spec.family,
        formats=dict(sorted(Counter(tensor.type.name for tensor in planned).items())),
        n_tensors=len(planned),
        read_bytes=sum(tensor.source_bytes for tensor in planned),
        written_bytes=path.stat().st_size,
    )


def _library() -> Any:
    try:
        import gguf  # noqa: PLC0415  only who writes such files needs it
    except ImportError as error:
        raise ConfigError(
            "GGUF files are written with the package `gguf`, which is not installed. Install it together with mogemma: "
            "pip install 'mogemma[quantize]'."
        ) from error
    return gguf


def _engine(architecture: Architecture, threads: int) -> Engine:
    """The model in the kernels, with as little beside its threads as a forward pass could do with."""
    numbers = {"n_threads": threads, "max_tokens": 1, "max_outputs": 1, "n_context": 1}
    choices = {"arithmetic": "MOGEMMA_INT8", "cache_format": "MOGEMMA_F16"}
    return Engine(architecture.struct, numbers, choices=choices)


def _begin(library: Any, path: Path, metadata: dict[str, Any], planned: list[Planned]) -> gguf.GGUFWriter:
    """A writer that has written all that stands before the tensors."""
    writer: gguf.GGUFWriter = library.GGUFWriter(None, metadata["general.architecture"])
    for key, value in metadata.items():
        if key != "general.architecture":
            _add(writer, library.GGUFValueType, key, value)
    for tensor in planned:
        kind = library.GGMLQuantizationType(int(tensor.type))
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.n_bytes, raw_dtype=kind)
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    except BaseException:
        writer.close()
        raise
    return writer


def _add(writer: gguf.GGUFWriter, types: Any, key: str, value: Any) -> None:
    """A key with the type that readers expect: numbers are u32 and f32 unless they need more."""
    if isinstance(value, np.ndarray):
        writer.add_key_value(key, value.tolist(), types.ARRAY, types[value.dtype.name.upper()])
    elif isinstance(value, list):
        writer.add_key_value(key, value, types.ARRAY, types.STRING)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        is_signed = value < 0 or key in _SIGNED_KEYS
        is_short = -(2**31) <= value < 2**31 if is_signed else value < 2**32
        short, long = (types.INT32, types.INT64) if is_signed else (types.UINT32, types.UINT64)
        writer.add_key_value(key, value, short if is_short else long)
    elif isinstance(value, float):
        is_wide = math.isfinite(value) and abs(value) > float(np.finfo(np.float32).max)
        writer.add_key_value(key, value, types.FLOAT64 if is_wide else types.FLOAT32)
    else:
        writer.add_string(key, value)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A tensor that is encoded while it is written."""

    tensor: Planned
    engine: Engine
    on_piece: Callable[[int], None]

    @property
    def nbytes(self) -> int:
        return self.tensor.n_bytes

    def tofile(self, file: BinaryIO) -> None:
        for piece in self._pieces():
            file.write(piece)
            self.on_piece(len(piece))

    def _pieces(self) -> Iterator[memoryview]:
        source, kind = self.tensor.source, self.tensor.type
        if isinstance(source, np.ndarray):
            yield memoryview(source.astype("<f4").tobytes())
            return
        # Released whatever happens, so that the source can be unmapped.
        with memoryview(source["data"]).cast("B") as data:
            row_bytes = data.nbytes // source["n_rows"]
            n_rows = max(_PIECE_BYTES // row_bytes // _ROW_STEP, 1) * _ROW_STEP
            for first in range(0, source["n_rows"], n_rows):
                n = min(n_rows, source["n_rows"] - first)
                with data[first * row_bytes : (first + n) * row_bytes] as rows:
                    matrix = {**source, "data": rows, "n_rows": n}
                    yield rows if source["format"] == kind else self._encoded(matrix)

    def _encoded(self, matrix: Mapping[str, Any]) -> memoryview:
        return memoryview(self.engine.encoded(self.tensor.name, matrix, self.tensor.type))
