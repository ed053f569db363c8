"""What a loaded model is and what it costs: `model.info`, `mogemma info`."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .architectures import unused_parts
from .kv_cache import KEY_BLOCK

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .session import Runner


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model's description; sizes in bytes, counts of tokens.

    Attributes:
        family: Which Gemma it is.
        format: How most of its weights are stored.
        formats: Tensors of each format.
        unused_parts: What the file has beside the text model, and mogemma leaves alone: towers for images and sound.
        context: Tokens that a session holds; `max_context` is the model's limit.
        is_context_cut: It is less, because nobody asked for more and the cache would not fit into half of the memory.
        embedding_dim: Size of its vectors; so many `dense_heads` stand before them: none in a model that writes, or where
            `dense="skip"` left them out.
        quantize: The format that float weights were brought to when the model was loaded; None: they are as stored.
        level: CPU level of the kernels in use.
        layer_weights: Multiply-accumulates of a token, without attention and logits: one for each weight of the layers.
        layer_bytes: Weights that every token is multiplied by, the dense heads of an embedding model among them; as they are
            read now, which after `quantize` is less than the file has.
        head_bytes: Weights that give the logits; 0 for a model that only embeds.
        kv_cache_bytes: What one session's cache takes when it is full: `kv_token_bytes` for each token of the context, in the
            layers that see all of it, and `kv_window_bytes` in those whose window slides, whatever the context is. A
            session whose answer was long keeps at most as much again, a copy of the windows.
        packed_bytes: Weights kept in memory in the order in which they are read, by now: quantised ones are packed after
            64 calls; 0: all are read where the file is mapped.
        is_short_of_memory: They would be kept so, which is faster, but do not fit.
        mapped_bytes: Size of the model's files, which are mapped.
        resident_bytes: Memory of this process now; `peak_resident_bytes` at most so far.
    """

    path: str
    family: str
    format: str
    formats: dict[str, int]
    unused_parts: list[str]
    n_parameters: int
    n_layers: int
    hidden_dim: int
    vocab_size: int
    context: int
    max_context: int
    is_context_cut: bool
    embedding_dim: int
    dense_heads: int
    generates: bool
    arithmetic: str
    quantize: str | None
    cache_format: str
    threads: int
    level: str
    layer_weights: int
    layer_bytes: int
    head_bytes: int
    kv_cache_bytes: int
    kv_token_bytes: int
    kv_window_bytes: int
    scratch_bytes: int
    packed_bytes: int
    is_short_of_memory: bool
    mapped_bytes: int
    resident_bytes: int
    peak_resident_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe(checkpoint: Checkpoint, runner: Runner) -> ModelInfo:
    """What is known of a model at this moment."""
    tensors = [tensor for part in (checkpoint, *checkpoint.submodules) for tensor in part.tensors.values()]
    formats: dict[str, int] = {}
    weights: dict[str, int] = {}
    for tensor in tensors:
        name = tensor.type.name
        formats[name] = formats.get(name, 0) + 1
        weights[name] = weights.get(name, 0) + tensor.n_weights
    architecture, engine = runner.architecture, runner.engine
    spec = architecture.spec
    resident = _resident_bytes()
    slots = -(-runner.context // KEY_BLOCK) * KEY_BLOCK
    return ModelInfo(
        path=str(checkpoint.path),
        family=spec.family,
        format=max(weights, key=weights.__getitem__),
        formats=dict(sorted(formats.items())),
        unused_parts=unused_parts(checkpoint),
        n_parameters=sum(weights.values()),
        n_layers=len(spec.layers),
        hidden_dim=spec.hidden_dim,
        vocab_size=spec.vocab_size,
        context=runner.context,
        max_context=spec.context,
        is_context_cut=runner.is_context_cut,
        embedding_dim=engine.embedding_dim,
        dense_heads=architecture.n_dense,
        generates=spec.is_causal,
        arithmetic=runner.arithmetic,
        quantize=runner.quantize,
        cache_format=runner.cache_format,
        threads=engine.n_threads,
        level=engine.kernel.level,
        layer_weights=architecture.layer_weights,
        layer_bytes=engine.matrices.layer_bytes,
        head_bytes=engine.matrices.head_bytes if spec.is_causal else 0,
        kv_cache_bytes=engine.cache_bytes,
        kv_token_bytes=runner.kv_token_bytes,
        kv_window_bytes=engine.cache_bytes - runner.kv_token_bytes * slots,
        scratch_bytes=engine.n_bytes,
        packed_bytes=runner.packed_bytes,
        is_short_of_memory=runner.is_short_of_memory,
        mapped_bytes=checkpoint.n_bytes,
        resident_bytes=resident,
        peak_resident_bytes=max(resident, _peak_resident_bytes()),  # the system counts the two apart
    )


def _peak_resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident_bytes() -> int:
    """Resident memory now; where the system does not tell (macOS), the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return _peak_resident_bytes()
    return pages * resource.getpagesize()
