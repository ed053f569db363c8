"""The engine's border: what it refuses, and that nothing but a sequence's own tokens decides its result."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference
from models import make_engine, make_model

from mogemma._native import Cancel, Engine, SequenceRun
from mogemma.checkpoint import TensorType
from mogemma.errors import CancelledError, ConfigError, KernelError, ModelClosedError, ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks import Floats

VOCAB = 50
STATUS = Path("/proc/self/status")

every_cache = pytest.mark.parametrize("cache_format", ["MOGEMMA_F32", "MOGEMMA_F16", "MOGEMMA_BF16"])
every_arithmetic = pytest.mark.parametrize("arithmetic", ["MOGEMMA_INT8", "MOGEMMA_FLOAT32"])


@pytest.fixture
def engine(level: str) -> Iterator[Engine]:
    made = make_engine(level=level)
    yield made
    made.close()


def ids(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.random.default_rng(seed).integers(0, VOCAB, n).astype(np.int32)


def logits_of(engine: Engine, *runs: SequenceRun, cancel: Cancel | None = None) -> Floats:
    result = np.full((sum(run.n_outputs for run in runs), engine.vocab_size), 7, np.float32)
    engine.forward(runs, logits=result, cancel=cancel)
    return result


def alone(engine: Engine, tokens: Any) -> Floats:
    """Logits of all tokens of one sequence, without a cache."""
    return logits_of(engine, SequenceRun(tokens, n_outputs=len(tokens)))


# --- options and models that cannot be


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_threads", 0),
        ("n_threads", -1),
        ("n_threads", 257),
        ("max_tokens", 0),
        ("max_tokens", 2**20 + 1),
        ("max_outputs", 0),
        ("max_outputs", 17),
        ("n_context", 0),
        ("n_context", 2**24 + 1),
        ("arithmetic", 0),
        ("arithmetic", 3),
        ("cache_format", 8),
        ("cache_format", -1),
    ],
)
def test_an_option_out_of_range_is_refused_by_name_and_value(level: str, option: str, value: int) -> None:
    options = {"n_threads": 1, "max_tokens": 16, "max_outputs": 16, "n_context": 64, "arithmetic": 1, "cache_format": 0}
    with pytest.raises(ConfigError, match=f"out of range: .*{option}={value}"):
        Engine(make_model(), {**options, option: value}, choices={}, level=level)


def change(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a field; `layers.1.q_proj.format` is inside a layer."""

    def apply(model: dict[str, Any]) -> None:
        *path, last = field.split(".")
        place: Any = model
        for step in path:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value

    return apply


WHOLE = {  # changes, and the status of each
    "n_layers=0": (change("n_layers", 0), "BAD_MODEL"),
    "n_layers=-1": (change("n_layers", -1), "BAD_MODEL"),
    "no layers": (change("layers", None), "BAD_MODEL"),
    "n_ropes=0": (change("n_ropes", 0), "BAD_MODEL"),
    "no ropes": (change("ropes", None), "BAD_MODEL"),
    "no frequencies": (change("ropes.0.frequencies", None), "BAD_MODEL"),
    "n_pairs=0": (change("ropes.0.n_pairs", 0), "BAD_MODEL"),
    "n_dense=-1": (change("n_dense", -1), "BAD_MODEL"),
    "17 dense matrices": (lambda model: model.update(n_dense=17, dense=[model["head"]] * 17), "BAD_MODEL"),
    "hidden_dim=0": (change("hidden_dim", 0), "BAD_MODEL"),
    "hidden_dim=2**31-1": (change("hidden_dim", 2**31 - 1), "BAD_MODEL"),
    "vocab_size=0": (change("vocab_size", 0), "BAD_MODEL"),
    "vocab_size of another model": (change("vocab_size", VOCAB + 1), "BAD_MODEL"),
    "no final norm": (change("final_norm", None), "BAD_MODEL"),
    "no token embedding": (change("token_embedding.data", None), "BAD_MODEL"),
    "embedding in an unknown format": (change("token_embedding.format", 4), "BAD_FORMAT"),
    "no head": (change("head", {"n_rows": VOCAB, "n_columns": 24, "format": 0}), "BAD_MODEL"),
}

LAYER = {
    "no attention norm": (change("layers.1.attention_norm", None), "BAD_MODEL"),
    "no mlp norm": (change("layers.1.mlp_norm", None), "BAD_MODEL"),
    "n_heads=0": (change("layers.1.n_heads", 0), "BAD_MODEL"),
    "n_heads=5 of 2": (change("layers.1.n_heads", 5), "BAD_MODEL"),
    "n_kv_heads=0": (change("layers.1.n_kv_heads", 0), "BAD_MODEL"),
    "n_kv_heads over n_heads": (change("layers.1.n_kv_heads", 8), "BAD_MODEL"),
    "head_dim=20": (change("layers.1.head_dim", 20), "BAD_MODEL"),
    "head_dim=32 with another rope": (change("layers.1.head_dim", 32), "BAD_MODEL"),
    "mlp_dim=0": (change("layers.1.mlp_dim", 0), "BAD_MODEL"),
    "mlp_dim=-8": (change("layers.1.mlp_dim", -8), "BAD_MODEL"),
    "n_before=-1": (change("layers.1.n_before", -1), "BAD_MODEL"),
    "n_after=-1": (change("layers.1.n_after", -1), "BAD_MODEL"),
    "rope=1 of 1": (change("layers.1.rope", 1), "BAD_MODEL"),
    "rope=-1": (change("layers.1.rope", -1), "BAD_MODEL"),
    **{
        f"{role} {what}": (change(f"layers.1.{role}.{field}", value), status)
        for role in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        for what, field, value, status in (
            ("missing", "data", None, "BAD_MODEL"),
            ("with a row too many", "n_rows", 1000, "BAD_MODEL"),
            ("with negative columns", "n_columns", -24, "BAD_MODEL"),
            ("in an unknown format", "format", 15, "BAD_FORMAT"),
            ("in a format whose blocks do not fit", "format", 14, "BAD_FORMAT"),
        )
    },
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_whose_own_fields_do_not_fit_is_refused(level: str, name: str) -> None:
    apply, status = WHOLE[name]
    model = make_model()
    model["head"] = {**model["head"]}
    apply(model)
    with pytest.raises(ModelFormatError, match=f"{status} in its own fields"):
        make_engine(model, level=level)


@pytest.mark.parametrize("name", LAYER)
def test_a_layer_that_does_not_fit_is_refused_by_its_index(level: str, name: str) -> None:
    apply, status = LAYER[name]
    model = make_model()
    apply(model)
    with pytest.raises(ModelFormatError, match=f"{status} in layer 1"):
        make_engine(model, level=level)


@pytest.mark.parametrize(
    "unused",
    [
        {"frequencies": None, "n_pairs": 8},
        {"frequencies": np.ones(2**20, np.float32), "n_pairs": 2**20},
        {"frequencies": np.ones(20, np.float32), "n_pairs": 20},
        {"frequencies": np.ones(8, np.float32), "n_pairs": -8},
    ],
)
def test_a_rotation_that_no_layer_uses_is_checked_as_well(level: str, unused: dict[str, Any]) -> None:
    """Angles are computed for all kinds of rotation, so one that is too large would be written beside its place."""
    model = make_model()
    model.update(n_ropes=2, ropes=[*model["ropes"], unused])
    with pytest.raises(ModelFormatError, match="BAD_MODEL in its own fields"):
        make_engine(model, level=level)


def test_a_wider_rotation_that_no_layer_uses_changes_nothing(level: str) -> None:
    model = make_model()
    expected = alone(make_engine(model, level=level), ids(12))
    wider = {"frequencies": np.ones(512, np.float32), "n_pairs": 512}
    model.update(n_ropes=2, ropes=[*model["ropes"], wider])
    assert np.array_equal(alone(make_engine(model, level=level), ids(12)), expected)


def test_dense_matrices_that_do_not_follow_on_each_other_are_refused(level: str) -> None:
    model = make_model(dense_dims=(32, 16))
    model["dense"] = model["dense"][::-1]
    with pytest.raises(ModelFormatError, match="BAD_MODEL in its own fields"):
        make_engine(model, level=level)


# --- calls that cannot be


@pytest.mark.parametrize(
    ("tokens", "changes", "status"),
    [
        ([], {}, "BAD_ARGUMENT"),
        ([1], {"n_outputs": 2}, "BAD_ARGUMENT"),
        ([1], {"n_outputs": -1}, "BAD_ARGUMENT"),
        ([1], {"position": -1}, "BAD_ARGUMENT"),
        ([1], {"position": 1}, "BAD_ARGUMENT"),  # without a cache
        ([1] * 17, {}, "BAD_ARGUMENT"),
        ([-1], {}, "BAD_TOKEN"),
        ([1, VOCAB], {}, "BAD_TOKEN"),
        ([2**31 - 1], {}, "BAD_TOKEN"),
        ([-(2**31)], {}, "BAD_TOKEN"),
    ],
)
def test_a_sequence_that_cannot_be_is_refused_and_nothing_computed(
    engine: Engine, tokens: list[int], changes: dict[str, int], status: str
) -> None:
    logits = np.full((2, VOCAB), 7, np.float32)
    run = SequenceRun(np.array(tokens, np.int32), **changes)
    with pytest.raises(KernelError, match=status):
        engine.forward([run], logits=logits)
    assert np.all(logits == 7)


@pytest.mark.parametrize("position", [60, 64, 2**31 - 1])
def test_tokens_that_pass_the_context_are_refused_and_nothing_computed(engine: Engine, position: int) -> None:
    cache = engine.new_cache()
    run = SequenceRun(ids(5), cache, position, n_outputs=1)
    logits = np.full((1, VOCAB), 7, np.float32)
    with pytest.raises(KernelError, match="CONTEXT_FULL"):
        engine.forward([run], logits=logits)
    assert np.all(logits == 7)


def test_a_batch_that_does_not_fit_is_refused(engine: Engine) -> None:
    run = SequenceRun(ids(8), n_outputs=8)
    for runs in ([], [run, run, run]):
        with pytest.raises(KernelError, match="BAD_ARGUMENT"):
            engine.forward(runs, logits=np.empty((24, VOCAB), np.float32))


def test_outputs_without_a_place_for_logits_are_refused(engine: Engine) -> None:
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        engine.forward([SequenceRun(ids(2), n_outputs=1)])


def test_more_rows_of_results_than_options_say_are_refused(level: str) -> None:
    engine = make_engine(make_model(dense_dims=(16,)), level=level, max_outputs=2)
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        alone(engine, ids(3))
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        engine.forward([SequenceRun(ids(2))] * 3, embeddings=np.empty((3, 16), np.float32))


def test_a_sequence_that_sees_both_ways_comes_whole(level: str) -> None:
    engine = make_engine(make_model(n_after=3), level=level)
    with pytest.raises(KernelError, match="BAD_ARGUMENT"):
        engine.forward([SequenceRun(ids(2), engine.new_cache(), 1)])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"n_rows": 0}, "BAD_ARGUMENT"),
        ({"n_columns": 65}, "BAD_ARGUMENT"),  # wider than any matrix of the model: its scratch memory is too small
        ({"n_columns": 0}, "BAD_ARGUMENT"),
        ({"data": None}, "BAD_MODEL"),
        ({"layout": 2}, "BAD_MODEL"),
        ({"format": 8}, "BAD_FORMAT"),
        ({"format": 99}, "BAD_FORMAT"),
    ],
)
def test_a_product_that_cannot_be_is_refused(engine: Engine, changes: dict[str, Any], status: str) -> None:
    matrix = {**make_model()["layers"][0]["q_proj"], **changes}
    with pytest.raises(KernelError, match=status):
        engine.matmul(matrix, np.zeros((1, 48), np.float32))


def test_damaged_weights_make_an_error_and_no_embedding(level: str) -> None:
    model = make_model(dense_dims=(16,))
    model["final_norm"][3] = np.nan
    engine = make_engine(model, level=level)
    with pytest.raises(ModelFormatError, match="damaged"):
        engine.forward([SequenceRun(ids(4))], embeddings=np.empty((1, 16), np.float32))


# --- what is computed

SHAPES: dict[str, dict[str, Any]] = {
    "one layer, one head": {"n_layers": 1, "n_heads": 1, "n_kv_heads": 1},
    "as many kv heads as heads": {"n_heads": 3, "n_kv_heads": 3},
    "one kv head for all": {"n_heads": 6, "n_kv_heads": 1},
    "long heads": {"head_dim": 64, "n_heads": 2, "n_kv_heads": 1},
    "odd sizes": {"hidden_dim": 37, "mlp_dim": 71, "vocab_size": 67},
    "a window of one": {"n_before": 0},
    "a window": {"n_before": 5},
    "both ways": {"n_before": 4, "n_after": 4},
    "all, both ways": {"n_after": reference.ALL},
    "soft caps": {"attention_softcap": 3.0, "logit_softcap": 2.0},
    "no inner norms": {"has_inner_norms": False},
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("n_tokens", [1, 2, 31, 32, 33, 60])
def test_logits_and_hidden_states_are_those_of_the_plain_forward_pass(level: str, name: str, n_tokens: int) -> None:
    """Float32 throughout: a few hundred roundings of numbers of size 1 to 10 stay below 1e-4."""
    model = make_model(**SHAPES[name])
    engine = make_engine(model, level=level, max_tokens=60, max_outputs=60)
    tokens = ids(n_tokens)
    logits = np.empty((n_tokens, model["vocab_size"]), np.float32)
    hidden = np.empty((n_tokens, model["hidden_dim"]), np.float32)
    engine.forward([SequenceRun(tokens, n_outputs=n_tokens)], logits=logits, hidden=hidden)
    assert np.abs(hidden - reference.hidden_states(model, tokens)).max() < 1e-4
    assert np.abs(logits - reference.logits(model, tokens)).max() < 1e-4


@pytest.mark.parametrize("kind", list(TensorType), ids=lambda kind: kind.name)
def test_every_format_runs_a_whole_model(level: str, kind: TensorType) -> None:
    model = make_model(kind=kind, hidden_dim=256, mlp_dim=256, n_heads=4, head_dim=64, vocab_size=VOCAB)
    engine = make_engine(model, level=level)
    expected = reference.logits(model, ids(9))
    assert np.abs(alone(engine, ids(9)) - expected).max() < 2e-5 * np.abs(expected).max() + 1e-4


def test_embeddings_are_the_mean_through_the_dense_matrices_at_unit_length(level: str) -> None:
    model = make_model(n_after=reference.ALL, dense_dims=(57, 19))
    engine = make_engine(model, level=level)
    texts = [ids(n, n) for n in (1, 7, 8)]
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
        text = ids(prefixes[seed] + lengths[seed], seed)
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
    assert np.array_equal(alone(more, ids(16)), alone(one, ids(16)))
    more.close()


def test_numbers_beyond_float16_do_not_become_infinite_in_its_cache(level: str) -> None:
    """Values are not normed: some Gemmas have ones beyond 65504."""
    model = make_model(n_layers=1)
    model["layers"][0]["v_proj"]["data"] = (model["layers"][0]["v_proj"]["data"].view(np.float32) * 1e6).view(np.uint8)
    engine = make_engine(model, level=level, cache_format="MOGEMMA_F16")
    run = SequenceRun(ids(8), engine.new_cache(), n_outputs=8)
    assert np.all(np.isfinite(logits_of(engine, run)))


# --- cancelling, closing, threads and processes


def test_a_cancelled_engine_can_be_used_again(engine: Engine) -> None:
    expected = alone(engine, ids(6))
    cancel = Cancel()
    cancel.set()
    with pytest.raises(CancelledError):
        logits_of(engine, SequenceRun(ids(6), n_outputs=6), cancel=cancel)
    assert np.array_equal(alone(engine, ids(6)), expected)


def test_what_was_in_the_cache_before_a_cancelled_call_is_still_there(level: str) -> None:
    """Also in a ring that is full: the tokens of the call go where the window does not reach."""
    engine = make_engine(make_model(n_before=5), level=level, max_tokens=8)
    text = ids(40)

    def run(first: int, last: int, cancel: Cancel | None = None) -> Floats:
        return logits_of(engine, SequenceRun(text[first:last], cache, first, n_outputs=1), cancel=cancel)

    cache = engine.new_cache()
    for first in range(0, 32, 8):
        run(first, first + 8)
    expected = run(32, 40)
    cancel = Cancel()
    cancel.set()
    with pytest.raises(CancelledError):
        run(32, 40, cancel)
    assert np.array_equal(run(32, 40), expected)


def slow_engine(n_threads: int = 2) -> tuple[Engine, SequenceRun]:
    """A call that takes about a second."""
    model = make_model(n_layers=24, hidden_dim=256, mlp_dim=2048, kind=TensorType.F32)
    engine = make_engine(model, n_threads=n_threads, max_tokens=1024, n_context=1024)
    return engine, SequenceRun(ids(1024), n_outputs=1)


def test_a_running_call_ends_soon_after_it_is_cancelled() -> None:
    engine, run = slow_engine()
    cancel = Cancel()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(logits_of, engine, run, cancel=cancel)
        time.sleep(0.05)
        cancel.set()
        with pytest.raises(CancelledError):
            call.result(timeout=60)
    engine.close()


def test_closing_waits_for_the_running_call_and_refuses_the_next() -> None:
    engine, run = slow_engine()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(logits_of, engine, run)
        time.sleep(0.05)
        late = pool.submit(lambda: time.sleep(0.05) or logits_of(engine, run))
        engine.close()
        assert np.all(np.isfinite(running.result(timeout=60)))
        with pytest.raises(ModelClosedError):
            late.result(timeout=60)


def test_a_call_that_waited_while_the_engine_was_closed_finds_it_closed() -> None:
    """It must not go on into memory that is gone."""
    for _ in range(20):
        engine = make_engine(n_threads=2)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call_until_closed, engine) for _ in range(4)]
            time.sleep(0.005)
            engine.close()
            assert all(call.result(timeout=60) for call in calls)


def call_until_closed(engine: Engine) -> bool:
    while True:
        try:
            alone(engine, ids(3))
        except ModelClosedError:
            return True


def test_a_closed_engine_is_an_error_and_closing_twice_is_harmless(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(ModelClosedError, match="closed"):
        alone(engine, ids(1))


def test_several_threads_may_use_one_engine(engine: Engine) -> None:
    texts = [ids(9, seed) for seed in range(4)]
    expected = [alone(engine, text) for text in texts]

    def hammer(index: int) -> bool:
        cache = engine.new_cache()
        for _ in range(50):
            whole = logits_of(engine, SequenceRun(texts[index][:5], cache, 0, 5))
            rest = logits_of(engine, SequenceRun(texts[index][5:], cache, 5, 4))
            if not np.array_equal(np.concatenate([whole, rest]), expected[index]):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(hammer, range(4)))


def test_several_engines_may_run_at_once(level: str) -> None:
    expected = alone(make_engine(level=level), ids(9))

    def hammer(_: int) -> bool:
        own = make_engine(level=level, n_threads=2)
        same = all(np.array_equal(alone(own, ids(9)), expected) for _ in range(10))
        own.close()
        return same

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(hammer, range(6)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_gets_an_error_instead_of_a_hang(level: str) -> None:
    engine = make_engine(level=level, n_threads=2)
    expected = alone(engine, ids(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks with threads: that is the test
        child = os.fork()
    if child == 0:
        os._exit(what_a_child_sees(engine, level, expected))
    assert wait_for(child) == 0
    assert np.array_equal(alone(engine, ids(5)), expected)
    engine.close()


def what_a_child_sees(engine: Engine, level: str, expected: Floats) -> int:
    """0: the parent's engine is an error, closing it is harmless, and one of the child's own works."""
    try:
        alone(engine, ids(5))
    except ModelClosedError:
        engine.close()
        own = make_engine(level=level, n_threads=2)
        same = np.array_equal(alone(own, ids(5)), expected)
        own.close()
        return 0 if same else 2
    return 1


def wait_for(child: int) -> int:
    """The child's exit status; a child that hangs is ended."""
    for _ in range(600):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which Linux has")
def test_opening_and_closing_leaves_no_memory_and_no_thread_behind(level: str) -> None:
    def cycle() -> None:
        engine = make_engine(level=level, n_threads=3, max_tokens=256, n_context=4096)
        engine.forward([SequenceRun(ids(200), engine.new_cache())])
        engine.close()

    for _ in range(5):
        cycle()
    gc.collect()
    before = resident_kilobytes(), n_threads()
    for _ in range(50):
        cycle()
    gc.collect()
    assert n_threads() == before[1]
    assert resident_kilobytes() - before[0] < 4096


def test_a_forgotten_engine_ends_its_threads(level: str) -> None:
    before = n_threads() if STATUS.exists() else threading.active_count()
    engine = make_engine(level=level, n_threads=3)
    alone(engine, ids(2))
    del engine
    gc.collect()
    assert (n_threads() if STATUS.exists() else threading.active_count()) == before


def status_field(name: str) -> int:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(name)


def n_threads() -> int:
    return status_field("Threads")


def resident_kilobytes() -> int:
    return status_field("VmRSS")


def test_an_engine_may_have_more_threads_than_there_are_cores_or_pieces_of_work(level: str) -> None:
    expected = alone(make_engine(level=level), ids(1))
    engine = make_engine(level=level, n_threads=min(2 * (os.cpu_count() or 1), 16))
    assert np.array_equal(alone(engine, ids(1)), expected)
    engine.close()


