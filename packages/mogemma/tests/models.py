"""Small models of random weights, as mappings of `mogemma_model`'s fields: for tests that need no real Gemma."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from extras import Maker, add_extras

from mogemma._native import BestLogits, Cancel, Engine, SequenceRun, Wanted, top_k
from mogemma.checkpoint import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from blocks import Floats
    from numpy.typing import NDArray

ALL = 2**31 - 1

VOCAB = 50
"""Tokens of `make_model()`."""

OPTIONS = {"n_threads": 1, "max_tokens": 16, "n_context": 64}


def make_engine(
    model: dict[str, Any] | None = None,
    *,
    level: str | None = None,
    arithmetic: str = "MOGEMMA_FLOAT32",
    cache_format: str = "MOGEMMA_F32",
    **options: int,
) -> Engine:
    """An engine over `model`, or over `make_model()`; `options` are changes to OPTIONS."""
    choices = {"arithmetic": arithmetic, "cache_format": cache_format}
    numbers = {**OPTIONS, **options}
    numbers.setdefault("max_outputs", numbers["max_tokens"])
    return Engine(model or make_model(), numbers, choices=choices, level=level)


def packed(
    engine: Engine,
    matrix: Mapping[str, Any],
    slices: Iterable[tuple[int, int]] | None = None,
    *,
    layout: str = "MOGEMMA_PACKED",
    allocate: Callable[[int], NDArray[np.uint8]] | None = None,
) -> dict[str, Any]:
    """A matrix in the order in which the kernels read it.

    Args:
        layout: The header's name of it.
        slices: First row and number of rows of each call; default: all in one.
        allocate: Makes the memory, on a 64-byte boundary.
    """
    ffi, lib = engine.kernel.ffi, engine.kernel.lib
    stored: Any = ffi.new("mogemma_matrix *", {x: matrix[x] for x in ("n_rows", "n_columns", "format")})
    data = ffi.from_buffer(matrix["data"])
    stored.data = data
    to = getattr(lib, layout)
    n_bytes = lib.mogemma_packed_bytes(stored, to)
    assert n_bytes > 0
    memory = (allocate or aligned)(n_bytes)
    for first, n_rows in slices or [(0, matrix["n_rows"])]:
        assert lib.mogemma_pack(engine.handle._engine, stored, to, first, n_rows, ffi.from_buffer(memory)) == 0
    return {**matrix, "data": memory, "layout": to}


def aligned(n_bytes: int) -> NDArray[np.uint8]:
    """Zeros on a 64-byte boundary."""
    memory = np.zeros(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]


def make_model(
    *,
    n_layers: int = 2,
    hidden_dim: int = 24,
    vocab_size: int = VOCAB,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int = 16,
    mlp_dim: int = 40,
    n_before: int = ALL,
    n_after: int = 0,
    attention_softcap: float = 0.0,
    logit_softcap: float = 0.0,
    has_inner_norms: bool = True,
    dense_dims: tuple[int, ...] = (),
    kind: TensorType = TensorType.F32,
    seed: int = 0,
    **extras: Any,
) -> dict[str, Any]:
    """A model whose every weight matrix is of `kind`; `extras` are what most models lack, arguments of `add_extras`."""
    maker = Maker(kind, seed)
    norm, matrix = maker.norm, maker.matrix

    def layer() -> dict[str, Any]:
        inner = {"q_norm": head_dim, "k_norm": head_dim, "post_attention_norm": hidden_dim, "post_mlp_norm": hidden_dim}
        return {
            "attention_norm": norm(hidden_dim),
            "mlp_norm": norm(hidden_dim),
            **{name: norm(size) if has_inner_norms else None for name, size in inner.items()},
            "q_proj": matrix(n_heads * head_dim, hidden_dim),
            "k_proj": matrix(n_kv_heads * head_dim, hidden_dim),
            "v_proj": matrix(n_kv_heads * head_dim, hidden_dim),
            "o_proj": matrix(hidden_dim, n_heads * head_dim),
            "gate_proj": matrix(mlp_dim, hidden_dim),
            "up_proj": matrix(mlp_dim, hidden_dim),
            "down_proj": matrix(hidden_dim, mlp_dim),
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "head_dim": head_dim,
            "mlp_dim": mlp_dim,
            "rope": 0,
            "n_before": n_before,
            "n_after": n_after,
            "attention_scale": head_dim**-0.5,
            "attention_softcap": attention_softcap,
        }

    embedding = matrix(vocab_size, hidden_dim)
    sizes = (hidden_dim, *dense_dims)
    frequencies = (10_000.0 ** (-np.arange(head_dim // 2) * 2 / head_dim)).astype(np.float32)
    model = {
        "n_layers": n_layers,
        "n_ropes": 1,
        "n_dense": len(dense_dims),
        "hidden_dim": hidden_dim,
        "vocab_size": vocab_size,
        "norm_epsilon": 1e-6,
        "embedding_scale": hidden_dim**0.5,
        "logit_softcap": logit_softcap,
        "layers": [layer() for _ in range(n_layers)],
        "ropes": [{"frequencies": frequencies, "n_pairs": head_dim // 2}],
        "dense": [matrix(n_out, n_in) for n_in, n_out in zip(sizes, dense_dims, strict=False)] or None,
        "final_norm": norm(hidden_dim),
        "token_embedding": embedding,
        "head": embedding,
    }
    add_extras(model, maker, **extras)
    return model


def token_ids(n: int, seed: int = 0) -> NDArray[np.int32]:
    """Tokens by chance; fewer of the same seed are the beginning of more."""
    return np.random.default_rng(seed).integers(0, VOCAB, n).astype(np.int32)


def logits_of(engine: Engine, *runs: SequenceRun, cancel: Cancel | None = None) -> Floats:
    """One forward pass; a row for each output, filled with 7 before."""
    result = np.full((sum(run.n_outputs for run in runs), engine.vocab_size), 7, np.float32)
    engine.forward(runs, logits=result, cancel=cancel)
    return result


def best_of(logits: Floats, wanted: Wanted) -> BestLogits:
    """What is wanted of all the logits of a token [vocab_size]."""
    others = logits[: wanted.vocab_size].copy()
    others[wanted.also] = -np.inf
    return BestLogits(*top_k(others, wanted.k), wanted.also, logits[wanted.also], len(logits))


def alone(engine: Engine, tokens: Any) -> Floats:
    """Logits of all tokens of one sequence, without a cache."""
    return logits_of(engine, SequenceRun(tokens, n_outputs=len(tokens)))
