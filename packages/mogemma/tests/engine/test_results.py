"""What the engine computes: the plain forward pass, whatever shares its batch, its chunks or its threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference
from models import VOCAB, alone, logits_of, make_engine, make_model, token_ids

from mogemma._native import SequenceRun
from mogemma.checkpoint import TensorType

if TYPE_CHECKING:
    pass

every_cache = pytest.mark.parametrize("cache_format", ["MOGEMMA_F32", "MOGEMMA_F16", "MOGEMMA_BF16"])
every_arithmetic = pytest.mark.parametrize("arithmetic", ["MOGEMMA_INT8", "MOGEMMA_FLOAT32"])

SHAPES: dict[str, dict[str, Any]] = {
    "one layer, one head": {"n_layers": 1, "n_heads": 1, "n_kv_heads": 1},
    "as many kv heads as heads": {"n_heads": 3, "n_kv_heads": 3},
    "one kv head for all": {"n_heads": 6, "n_kv_heads": 1},
    "more heads than a tile of attention holds": {"n_heads": 70, "n_kv_heads": 1},
    "long heads": {"head_dim": 64, "n_heads": 2, "n_kv_heads": 1},
    "odd sizes": {"hidden_dim": 37, "mlp_dim": 71, "vocab_size": 67},
    "a window of one": {"n_before": 0},
    "a window": {"n_before": 5},
    "both ways": {"n_before": 4, "n_after": 4},
    "all, both ways": {"n_after": reference.ALL},
    "soft caps": {"attention_softcap": 3.0, "logit_softcap": 2.0},
    "no inner norms": {"has_inner_norms": False},
    "heads of 512": {"head_dim": 512, "n_heads": 2, "n_kv_heads": 1},
    "normed values": {"has_v_norm": True},
    "keys for values": {"has_v_norm": True, "takes_keys": True},
    "keys and values of an earlier layer": {"n_layers": 5, "kv_backs": (0, 0, 1, 3, 3), "n_before": 5},
    "a gate mostly shut": {"gate_cutoff": 0.8, "mlp_dim": 71},
    "outputs scaled": {"output_scale": 0.7},
    "laurel": {"laurel_rank": 5},
    "experts": {"experts": (7, 3, 21)},
    "one expert": {"experts": (1, 1, 40)},
    "all experts": {"experts": (4, 4, 33), "hidden_dim": 37},
    "per-layer embeddings": {"ple_dim": 8, "ple_rows": VOCAB},
    "per-layer embeddings of some tokens": {"ple_dim": 5, "ple_rows": VOCAB // 2, "hidden_dim": 37},
    "per-layer embeddings without a table": {"ple_dim": 8},
    "two streams": {"n_streams": 2, "hidden_dim": 37},
    "four streams": {"n_streams": 4, "n_layers": 3},
    "as Gemma 3n": {
        "n_layers": 4,
        "kv_backs": (0, 0, 2, 2),
        "has_v_norm": True,
        "gate_cutoff": 0.5,
        "laurel_rank": 6,
        "ple_dim": 8,
        "ple_rows": 30,
        "n_streams": 4,
        "n_before": 7,
    },
    "all that can go together": {
        "n_layers": 3,
        "has_v_norm": True,
        "takes_keys": True,
        "gate_cutoff": 0.5,
        "output_scale": 1.3,
        "laurel_rank": 6,
        "experts": (5, 2, 24),
        "ple_dim": 8,
        "ple_rows": VOCAB,
        "logit_softcap": 5.0,
    },
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("n_tokens", [1, 2, 31, 32, 33, 60])
def test_logits_and_hidden_states_are_those_of_the_plain_forward_pass(level: str, name: str, n_tokens: int) -> None:
    """Float32 throughout: a few hundred roundings of numbers of size 1 to 10 stay below 1e-4."""
    model = make_model(**SHAPES[name])
    engine = make_engine(model, level=level, max_tokens=60, max_outputs=60)
    tokens = token_ids(n_tokens)
    logits = np.empty((n_tokens, model["vocab_size"]), np.float32)
    hidden = np.empty((n_tokens, model["hidden_dim"]), np.float32)
    engine.forward([SequenceRun(tokens, n_outputs=n_tokens)], logits=logits, hidden=hidden)
    assert np.abs(hidden - reference.hidden_states(model, tokens)).max() < 1e-4
    assert np.abs(logits - reference.logits(model, tokens)).max() < 1e-4


@pytest.mark.parametrize("n_before", [reference.ALL, 1500, 40])
def test_a_long_sequence_is_the_same_in_any_chunks_and_that_of_the_plain_forward_pass(
    level: str, n_before: int
) -> None:
    """2100 positions: the softmax is joined from segments of 1024, and a ring of 40 goes round fifty times."""
    n = 2100
    model = make_model(n_layers=1, n_heads=2, n_kv_heads=1, n_before=n_before)
    expected = reference.logits(model, token_ids(n))[-10:]
    results = []
    for max_tokens in (600, 77):
        engine = make_engine(model, level=level, max_tokens=max_tokens, n_context=n)
        cache = engine.new_cache()
        for first in range(0, n - 10, max_tokens):
            engine.forward([SequenceRun(token_ids(n)[first : min(first + max_tokens, n - 10)], cache, first)])
        singly = [logits_of(engine, SequenceRun(token_ids(n)[at : at + 1], cache, at, 1))[0] for at in range(n - 10, n)]
        together = logits_of(engine, SequenceRun(token_ids(n)[-10:], cache, n - 10, 10))
        assert np.array_equal(together, singly)
        results.append(together)
    assert np.array_equal(results[0], results[1])
    assert np.abs(results[0] - expected).max() < 1e-4


@pytest.mark.parametrize("kind", list(TensorType), ids=lambda kind: kind.name)
def test_every_format_runs_a_whole_model(level: str, kind: TensorType) -> None:
    model = make_model(kind=kind, hidden_dim=256, mlp_dim=256, n_heads=4, head_dim=64, vocab_size=VOCAB)
    engine = make_engine(model, level=level)
    expected = reference.logits(model, token_ids(9))
    assert np.abs(alone(engine, token_ids(9)) - expected).max() < 2e-5 * np.abs(expected).max() + 1e-4


def test_embeddings_are_the_mean_through_the_dense_matrices_at_unit_length(level: str) -> None:
    model = make_model(n_after=reference.ALL, dense_dims=(57, 19))
    engine = make_engine(model, level=level)
    texts = [token_ids(n, n) for n in (1, 7, 8)]
    result = np.empty((3, 19), np.float32)
    engine.forward([SequenceRun(text) for text in texts], embeddings=result)
    assert np.abs(result - [reference.embedding(model, text) for text in texts]).max() < 1e-5
    assert np.abs(np.linalg.norm(result, axis=1) - 1).max() < 1e-6


@every_cache
@every_arithmetic
def test_a_batch_gives_each_sequence_what_it_gets_alone(level: str, arithmetic: str, cache_format: str) -> None:
    """Some at their start, some in the midst of a text, of all lengths, to the bit."""
    model = make_model(kind=TensorType.Q8_0, hidden_dim=32, mlp_dim=64, n_before=6)
    engine = make_engine(
        model, level=level, arithmetic=arithmetic, cache_format=cache_format, n_threads=2, max_tokens=40, max_outputs=40
    )
    prefixes, lengths = (0, 3, 17, 0, 8), (1, 5, 4, 9, 1)

    def prepared(seed: int) -> SequenceRun:
        text = token_ids(prefixes[seed] + lengths[seed], seed)
        cache = engine.new_cache()
        if prefixes[seed]:
            engine.forward([SequenceRun(text[: prefixes[seed]], cache)])
        return SequenceRun(text[prefixes[seed] :], cache, prefixes[seed], n_outputs=min(2, lengths[seed]))

    singly = [logits_of(engine, prepared(seed)) for seed in range(5)]
    assert np.array_equal(logits_of(engine, *map(prepared, range(5))), np.concatenate(singly))


@every_cache
@every_arithmetic
@pytest.mark.parametrize("n_threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(
    level: str, arithmetic: str, cache_format: str, n_threads: int
) -> None:
    model = make_model(kind=TensorType.Q4_0, hidden_dim=64, mlp_dim=96)
    one, more = (
        make_engine(model, level=level, arithmetic=arithmetic, cache_format=cache_format, n_threads=n)
        for n in (1, n_threads)
    )
    assert np.array_equal(alone(more, token_ids(16)), alone(one, token_ids(16)))
    more.close()


def test_numbers_beyond_float16_do_not_become_infinite_in_its_cache(level: str) -> None:
    """Values are not normed: some Gemmas have ones beyond 65504."""
    model = make_model(n_layers=1)
    model["layers"][0]["v_proj"]["data"] = (model["layers"][0]["v_proj"]["data"].view(np.float32) * 1e6).view(np.uint8)
    engine = make_engine(model, level=level, cache_format="MOGEMMA_F16")
    run = SequenceRun(token_ids(8), engine.new_cache(), n_outputs=8)
    assert np.all(np.isfinite(logits_of(engine, run)))


EXTRAS: dict[str, Any] = {
    "n_layers": 4,
    "kv_backs": (0, 0, 1, 2),
    "has_v_norm": True,
    "gate_cutoff": 0.5,
    "n_before": 6,
    "laurel_rank": 32,
    "experts": (5, 2, 32),
    "ple_dim": 32,
    "ple_rows": VOCAB,
    "n_streams": 3,
    "hidden_dim": 64,
    "mlp_dim": 96,
    "vocab_size": VOCAB,
}


@every_arithmetic
@pytest.mark.parametrize("kind", [TensorType.Q8_0, TensorType.Q4_0, TensorType.BF16], ids=lambda kind: kind.name)
def test_what_only_some_models_have_keeps_all_promises_to_the_bit(
    level: str, arithmetic: str, kind: TensorType
) -> None:
    """Threads, chunks, decode, batch: who shares experts with whom, and whose keys are read again, changes nothing."""
    model = make_model(kind=kind, **EXTRAS)
    one, three = (
        make_engine(model, level=level, arithmetic=arithmetic, n_threads=n, max_tokens=48, max_outputs=48)
        for n in (1, 3)
    )
    texts = [token_ids(n, n) for n in (1, 12, 30)]
    expected = [alone(one, text) for text in texts]
    runs = [SequenceRun(text, None, n_outputs=len(text)) for text in texts]
    uncached = [logits_of(one, run) for run in runs]
    assert np.array_equal(logits_of(three, *runs), np.concatenate(uncached))
    cached = [SequenceRun(text, three.new_cache(), n_outputs=len(text)) for text in texts]
    assert np.array_equal(logits_of(three, *cached), np.concatenate(expected))
    cache = three.new_cache()
    singly = [logits_of(three, SequenceRun(texts[2][at : at + 1], cache, at, 1))[0] for at in range(30)]
    assert np.array_equal(singly, expected[2])
    three.close()


def test_quantised_experts_and_per_layer_embeddings_are_those_of_the_plain_forward_pass(level: str) -> None:
    model = make_model(kind=TensorType.Q4_0, **EXTRAS)
    expected = reference.logits(model, token_ids(20))
    engine = make_engine(model, level=level, max_tokens=20)
    assert np.abs(alone(engine, token_ids(20)) - expected).max() < 2e-5 * np.abs(expected).max() + 1e-4


def test_layers_that_read_the_keys_and_values_of_others_keep_none(level: str) -> None:
    own, shared = (make_engine(make_model(n_layers=4, kv_backs=backs), level=level) for backs in ((), (0, 0, 1, 2)))
    assert own.cache_bytes == 2 * shared.cache_bytes
