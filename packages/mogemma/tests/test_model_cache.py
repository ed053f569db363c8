"""The KV cache that a model keeps between calls is an optimisation: no call can tell, not by a single bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from checkpoints import GEMMA, QUANT_ZOO, copy_folder, copy_gguf

from mogemma import Completion, SyncGemmaModel
from mogemma.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CONTEXT = 1024
WINDOW = 8
"""Of the sliding layers; their rings hold it and a prefill chunk of 256."""

USER, MODEL = "user", "assistant"


class Kind(NamedTuple):
    path: Path
    options: Mapping[str, Any]

    def load(self, **options: Any) -> SyncGemmaModel:
        return SyncGemmaModel(self.path, **{"threads": 1, **self.options, **options})


@pytest.fixture(scope="module", params=["float32", "int8"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    """A model with a full and six sliding layers, in float32; or one of 15 quantised formats, with int8 activations."""
    folder = tmp_path_factory.mktemp("long")
    if request.param == "float32":
        path = copy_folder(GEMMA, folder / "model", {"max_position_embeddings": CONTEXT})
        return Kind(path, {"arithmetic": "float32", "cache": "f32"})
    path = copy_gguf(QUANT_ZOO / "model.gguf", folder / "model.gguf", {"gemma3.context_length": CONTEXT})
    return Kind(path, {"arithmetic": "int8", "cache": "f16"})


@pytest.fixture
def warm(kind: Kind) -> Iterator[SyncGemmaModel]:
    with kind.load() as model:
        yield model


def prompt(n_tokens: int, seed: int = 0) -> list[int]:
    return [2, *np.random.default_rng(seed).integers(10, 512, n_tokens - 1).tolist()]


def answer(model: SyncGemmaModel, ids: Sequence[int]) -> Completion:
    return model.complete(ids, max_tokens=5, seed=1, logprobs=3, stop_ids=())


def assert_same(warm: Completion, cold: Completion) -> None:
    assert warm.token_ids == cold.token_ids
    assert warm.logprobs == cold.logprobs
    assert warm.text == cold.text


@pytest.mark.parametrize("n_tokens", [1, 2, WINDOW, WINDOW + 1, 30, 255, 256, 257, 300, 700])
def test_a_prompt_is_answered_the_same_the_second_time(warm: SyncGemmaModel, n_tokens: int) -> None:
    first = answer(warm, prompt(n_tokens))
    second = answer(warm, prompt(n_tokens))
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, n_tokens - 1)
    assert_same(second, first)


@pytest.mark.parametrize("n_kept", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 50, 255, 256, 257, 500, 599])
def test_a_prompt_that_goes_another_way_is_answered_as_by_a_fresh_model(
    kind: Kind, warm: SyncGemmaModel, n_kept: int
) -> None:
    """Where the rings have lost what the sliding layers need, nothing is kept."""
    answer(warm, prompt(600))
    other = [*prompt(600)[:n_kept], *prompt(60, seed=9)[1:]]
    with kind.load() as cold:
        second = answer(warm, other)
        assert_same(second, answer(cold, other))
    assert second.usage.cached_tokens in {0, min(n_kept, len(other) - 1)}


def test_a_long_answer_is_written_again_without_computing_the_prompt(kind: Kind, warm: SyncGemmaModel) -> None:
    """Longer than a ring keeps beside its window: a copy of the rings, from where the answer began, stands in."""
    for turn in range(3):
        options: dict[str, Any] = {"max_tokens": 400, "seed": turn, "logprobs": 1, "stop_ids": ()}
        found = warm.complete(prompt(500), **options)
        assert found.usage.cached_tokens == (499 if turn else 0)
        with kind.load() as cold:
            assert_same(found, cold.complete(prompt(500), **options))


def test_any_order_of_prompts_is_answered_as_by_fresh_models(kind: Kind, warm: SyncGemmaModel) -> None:
    """Beginnings of three long texts, shorter and longer by turns."""
    rng = np.random.default_rng(5)
    texts = [prompt(900, seed) for seed in range(2)]
    texts.append([*texts[0][:400], *prompt(501, seed=7)[1:]])
    n_cached = 0
    for _ in range(12):
        ids = texts[rng.integers(3)][: int(rng.integers(1, 900))]
        with kind.load() as cold:
            found = answer(warm, ids)
            assert_same(found, answer(cold, ids))
        n_cached += found.usage.cached_tokens
    assert n_cached > 0


def test_a_longer_prompt_computes_only_what_is_new(warm: SyncGemmaModel) -> None:
    answer(warm, prompt(400))
    found = answer(warm, prompt(400) + prompt(50, seed=3)[1:])
    assert found.usage.cached_tokens == 400
    assert found.timings.prefill_tokens == 49


def test_a_prompt_that_takes_up_the_last_answer_does_not_compute_it_again(warm: SyncGemmaModel) -> None:
    first = answer(warm, prompt(30))
    found = answer(warm, [*prompt(30), *first.token_ids, 7, 8])
    assert found.usage.cached_tokens == 30 + len(first.token_ids) - 1  # the last one was never read


def test_scores_and_logits_do_not_depend_on_what_was_asked_before(kind: Kind, warm: SyncGemmaModel) -> None:
    answer(warm, prompt(500))
    with kind.load() as cold:
        assert np.array_equal(warm.logits(prompt(300)), cold.logits(prompt(300)))
        assert np.array_equal(warm.score(prompt(300)), cold.score(prompt(300)))
        assert_same(answer(warm, prompt(300)), answer(cold, prompt(300)))


def test_scores_and_logits_leave_the_conversation_in_the_cache(warm: SyncGemmaModel) -> None:
    """They take no part in it, and give back the cache that they had."""
    answer(warm, prompt(300))
    closed: list[int] = []
    close = Session.close

    def note_and_close(session: Session) -> None:
        closed.append(session.position)
        close(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "close", note_and_close)
        warm.logits(prompt(40, seed=4))
        warm.score(prompt(40, seed=4))
    assert closed == [40, 40]
    assert answer(warm, prompt(300)).usage.cached_tokens == 299


def test_prefill_and_decode_give_the_same_logits(warm: SyncGemmaModel) -> None:
    """What the loop sees token by token is what `logits` sees at once."""
    ids = prompt(290)
    found = warm.complete(ids, max_tokens=12, temperature=0, logprobs=0, stop_ids=())
    rows = warm.logits([*ids, *found.token_ids])[len(ids) - 1 : -1]
    assert rows.argmax(axis=1).tolist() == list(found.token_ids)
    assert found.logprobs is not None
    for row, token_id, step in zip(rows, found.token_ids, found.logprobs, strict=True):
        logsumexp = float(row.max()) + float(np.log(np.exp(row - row.max()).sum(dtype=np.float64)))
        assert step.logprob == float(row[token_id]) - logsumexp


def test_any_number_of_threads_gives_the_same_bits(kind: Kind, warm: SyncGemmaModel) -> None:
    for threads in (2, 3):
        with kind.load(threads=threads) as model:
            assert np.array_equal(model.logits(prompt(300)), warm.logits(prompt(300)))
            assert_same(answer(model, prompt(300)), answer(warm, prompt(300)))


def test_each_turn_of_a_chat_takes_up_the_cache_of_the_last(kind: Kind, warm: SyncGemmaModel) -> None:
    """The answer's text may become other tokens when it is read back; what is in common is kept, and the reply is the same."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": USER, "content": "Tell me of the sea " * 3}]
    for turn in range(4):
        options: dict[str, Any] = {"max_tokens": 12, "seed": turn, "logprobs": 1}
        found = warm.chat(messages, **options)
        with kind.load() as cold:
            assert_same(found, cold.chat(messages, **options))
        assert (found.usage.cached_tokens > 0) == (turn > 0)
        messages += [{"role": MODEL, "content": found.text}, {"role": USER, "content": f"And then, {turn}?"}]


def test_leaving_a_stream_does_not_spoil_the_cache(kind: Kind, warm: SyncGemmaModel) -> None:
    stream = warm.generate_stream(prompt(300), seed=2)
    next(stream)
    del stream
    with kind.load() as cold:
        for ids in (prompt(300), prompt(310), prompt(200)):
            assert_same(answer(warm, ids), answer(cold, ids))


@pytest.mark.parametrize("cache", ["f16", "bf16", "f32"])
def test_every_cache_format_is_as_good_cold_as_warm(kind: Kind, cache: str) -> None:
    with kind.load(cache=cache) as model:
        assert_same(answer(model, prompt(300)), answer(model, prompt(300)))
