"""Do the kernels compute right on this machine? `python -m mogemma.commands.self_check` in a process of its own, for a kernel
that does not may end it with a signal, or never.

A model of one layer and random weights: its products must be numpy's, and what it says of a text must not depend on whether
that comes at once or token by token, nor on the number of threads.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .._native import Engine, SequenceRun
from ..checkpoint import TensorType
from ..cpu import available_cores
from ..errors import KernelError, MogemmaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HIDDEN, HEAD, MLP, VOCABULARY = 48, 16, 64, 40
TOKENS = np.arange(3, 14, dtype=np.int32)
ALL = 2**31 - 1


def check_kernels() -> None:
    """Raises KernelError if something is computed wrong."""
    x = np.random.default_rng(1).standard_normal((3, HIDDEN)).astype(np.float32)
    model = _model()
    at_once = []
    for n_threads in sorted({1, available_cores()}):
        engine = _engine(model, n_threads)
        try:
            _compare(engine.matmul(model["head"], x), x @ model["head"]["data"].view(np.float32).T, "a matrix product")
            logits = _logits(engine, [TOKENS])
            _compare(_logits(engine, [TOKENS[i : i + 1] for i in range(len(TOKENS))]), logits, "decode against prefill")
            at_once.append(logits)
        finally:
            engine.close()
    _compare(at_once[-1], at_once[0], "several threads against one")


def _compare(ours: NDArray[np.float32], theirs: NDArray[np.float32], what: str) -> None:
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
        raise KernelError(
            f"The kernels compute wrong on this machine: {what} is off by {np.abs(ours - theirs).max():.3g}. "
            "Please report this as a bug in mogemma, with what `mogemma doctor --json` prints; "
            "MOGEMMA_CPU_LEVEL=<a lower level> may help meanwhile."
        )


def _logits(engine: Engine, parts: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
    """Of the last token, when the tokens come in these parts; [1, VOCABULARY]."""
    cache = engine.new_cache()
    logits = np.empty((1, VOCABULARY), np.float32)
    position = 0
    for part in parts:
        engine.forward([SequenceRun(part, cache, position, 1)], logits=logits)
        position += len(part)
    cache.close()
    return logits


def _engine(model: dict[str, Any], n_threads: int) -> Engine:
    options = {"n_threads": n_threads, "max_tokens": 16, "max_outputs": 1, "n_context": 16}
    return Engine(model, options, choices={"arithmetic": "MOGEMMA_FLOAT32", "cache_format": "MOGEMMA_F32"})


def _model() -> dict[str, Any]:
    """`mogemma_model` as a mapping from field to value."""
    rng = np.random.default_rng(0)

    def matrix(n_rows: int, n_columns: int) -> dict[str, Any]:
        data = (rng.standard_normal((n_rows, n_columns)) / np.sqrt(n_columns)).astype(np.float32)
        return {"data": data, "n_rows": n_rows, "n_columns": n_columns, "format": int(TensorType.F32)}

    layer = {
        "attention_norm": np.ones(HIDDEN, np.float32),
        "mlp_norm": np.ones(HIDDEN, np.float32),
        "q_proj": matrix(2 * HEAD, HIDDEN),
        "k_proj": matrix(HEAD, HIDDEN),
        "v_proj": matrix(HEAD, HIDDEN),
        "o_proj": matrix(HIDDEN, 2 * HEAD),
        "gate_proj": matrix(MLP, HIDDEN),
        "up_proj": matrix(MLP, HIDDEN),
        "down_proj": matrix(HIDDEN, MLP),
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": HEAD,
        "mlp_dim": MLP,
        "n_before": ALL,
        "attention_scale": HEAD**-0.5,
    }
    embedding = matrix(VOCABULARY, HIDDEN)
    frequencies = (10_000.0 ** (-np.arange(HEAD // 2) * 2 / HEAD)).astype(np.float32)
    return {
        "n_layers": 1,
        "n_ropes": 1,
        "hidden_dim": HIDDEN,
        "vocab_size": VOCABULARY,
        "norm_epsilon": 1e-6,
        "embedding_scale": HIDDEN**0.5,
        "layers": [layer],
        "ropes": [{"frequencies": frequencies, "n_pairs": HEAD // 2}],
        "final_norm": np.ones(HIDDEN, np.float32),
        "token_embedding": embedding,
        "head": embedding,
    }


def main() -> int:
    """The status is 1, and a sentence is on standard output, if something is wrong."""
    try:
        check_kernels()
    except MogemmaError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
