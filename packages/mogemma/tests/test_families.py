"""Every family against the reference implementation; and that no way of running it changes a bit of what it says."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import TINY

from mogemma._native import SequenceRun
from mogemma.checkpoint import open_checkpoint
from mogemma.session import Runner, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from blocks import Floats
    from numpy.typing import NDArray

TEXTS = [
    "gemma1-mha",
    "gemma1-mqa",
    "gemma1-mqa/model.gguf",
    "gemma2",
    "gemma2/model.gguf",
    "gemma2-qpas",
    "gemma3n-text",
    "gemma3n-text/model.gguf",
    "gemma4-dense",
    "gemma4-dense/model.gguf",
    "gemma4-e2b",
    "gemma4-e2b/model.gguf",
    "gemma4-moe",
    "gemma4-moe/model.gguf",
]
"""Checkpoints that write, with golden outputs beside them; Gemma 3's are in test_session.py."""

EXACT: dict[str, Any] = {"arithmetic": "float32", "cache": "f32"}

every_text = pytest.mark.parametrize("case", TEXTS)


@contextmanager
def opened(case: str | Path, **options: Any) -> Iterator[Runner]:
    options.setdefault("threads", 1)
    with open_checkpoint(TINY / case) as checkpoint, Runner(checkpoint, **options) as runner:
        yield runner


def golden(case: str) -> dict[str, NDArray[Any]]:
    with np.load(TINY / case.partition("/")[0] / "golden.npz") as arrays:
        return dict(arrays)


def whole_logits(runner: Runner, ids: Sequence[int]) -> Floats:
    """Of every token, by prefill in the largest chunks."""
    session = Session(runner)
    logits = session.logits(ids)
    session.close()
    return logits


@every_text
def test_float32_logits_are_those_of_the_reference_implementation(level: str, case: str) -> None:
    expected = golden(case)
    with opened(case, **EXACT, level=level) as runner:
        assert np.abs(whole_logits(runner, expected["input_ids"].tolist()) - expected["logits"]).max() < 1e-4


@every_text
def test_greedy_decoding_takes_the_tokens_of_the_reference_implementation(level: str, case: str) -> None:
    expected = golden(case)
    with opened(case, **EXACT, level=level) as runner:
        session = Session(runner)
        logits = session.prefill(expected["input_ids"].tolist())
        taken = []
        for _ in expected["greedy_ids"]:
            taken.append(int(logits.argmax()))
            logits = session.decode(taken[-1])
        session.close()
    assert taken == expected["greedy_ids"].tolist()


@every_text
@pytest.mark.parametrize("arithmetic", ["int8", "bfloat16"])
def test_token_by_token_and_in_any_chunks_is_prefill_to_the_bit(level: str, case: str, arithmetic: str) -> None:
    ids = golden(case)["input_ids"].tolist()
    with opened(case, arithmetic=arithmetic, level=level) as runner:
        expected = whole_logits(runner, ids)
        session = Session(runner)
        assert np.array_equal([session.decode(token).copy() for token in ids], expected)
        session.close()
    with opened(case, arithmetic=arithmetic, level=level, max_tokens=5) as runner:
        assert np.array_equal(whole_logits(runner, ids), expected)


@every_text
@pytest.mark.parametrize("arithmetic", ["int8", "bfloat16"])
def test_the_number_of_threads_and_packed_weights_do_not_change_a_bit(level: str, case: str, arithmetic: str) -> None:
    ids = golden(case)["input_ids"].tolist()
    options: dict[str, Any] = {"arithmetic": arithmetic, "level": level}
    with opened(case, **options, pack=False) as one, opened(case, **options, threads=3, pack=True) as three:
        assert np.array_equal(whole_logits(three, ids), whole_logits(one, ids))


@every_text
def test_a_batch_of_texts_gives_each_what_it_gets_alone(level: str, case: str) -> None:
    """With a cache and without one, where keys and values live for the call only."""
    ids = np.asarray(golden(case)["input_ids"], np.int32)
    texts = [ids[:1], ids[:9], ids[3:], ids]
    with opened(case, level=level) as runner:
        engine = runner.engine

        def logits(texts: Sequence[NDArray[np.int32]], *, cached: bool) -> Floats:
            result = np.empty((sum(map(len, texts)), engine.vocab_size), np.float32)
            caches = [engine.new_cache() if cached else None for _ in texts]
            runs = [SequenceRun(one, cache, n_outputs=len(one)) for one, cache in zip(texts, caches, strict=True)]
            engine.forward(runs, logits=result)
            for cache in caches:
                if cache is not None:
                    cache.close()
            return result

        for cached in (True, False):
            alone = [logits([one], cached=cached) for one in texts]
            assert np.array_equal(logits(texts, cached=cached), np.concatenate(alone))


@every_text
def test_quantised_weights_stay_near_the_reference_implementation(level: str, case: str) -> None:
    """8 bits, on tiny matrices of random weights, which forgive less than trained ones; a wrong pass is off by 1."""
    expected = golden(case)
    with opened(case, quantize="q8_0", level=level) as runner:
        logits = whole_logits(runner, expected["input_ids"].tolist())
    error = logits - expected["logits"]
    assert 0 < np.sqrt((error**2).mean()) < 0.1 * expected["logits"].std()
