"""The real models through the classes that a user holds: texts in, texts and vectors out, as the reference gives them."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mogemma import EmbeddingModel, SyncGemmaModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PROMPTS = ("english", "code", "japanese", "emoji_bytes", "whitespace")
WINDOW = 512
"""Of the sliding layers of Gemma 3 270M."""


@pytest.fixture(scope="module")
def golden(data_path: Path) -> Mapping[str, NDArray[Any]]:
    with np.load(data_path / "real" / "gemma-3-270m" / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def exact(gemma_270m_path: Path) -> Iterator[SyncGemmaModel]:
    with SyncGemmaModel(gemma_270m_path, context=2048, arithmetic="float32") as model:
        yield model


@pytest.fixture(scope="module")
def model(gemma_270m_path: Path) -> Iterator[SyncGemmaModel]:
    """As a user loads it."""
    with SyncGemmaModel(gemma_270m_path) as model:
        yield model


@pytest.fixture(scope="module")
def embedder(embeddinggemma_path: Path) -> Iterator[EmbeddingModel]:
    with EmbeddingModel(embeddinggemma_path) as model:
        yield model


@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_text_is_that_of_the_reference(
    exact: SyncGemmaModel, golden: Mapping[str, NDArray[Any]], name: str
) -> None:
    ids = golden[f"{name}_input_ids"].tolist()
    greedy = golden[f"{name}_greedy_ids"].tolist()
    prompt = exact.tokenizer.decode(ids)
    completion = exact.complete(prompt, temperature=0, max_tokens=len(greedy), stop_ids=())
    assert exact.tokenizer.encode(prompt) == ids
    assert list(completion.token_ids) == greedy
    assert "".join(exact.generate_stream(ids, temperature=0, max_tokens=len(greedy))) == completion.text


def test_logprobs_are_those_of_the_reference(exact: SyncGemmaModel, golden: Mapping[str, NDArray[Any]]) -> None:
    """The golden logits are before the log-softmax: their differences are compared."""
    top = exact.complete(golden["english_input_ids"].tolist(), max_tokens=1, logprobs=20, seed=0).logprobs
    assert top is not None
    assert [each.token_id for each in top[0].top] == golden["english_top_ids"][-1].tolist()
    found = np.array([each.logprob for each in top[0].top])
    logits = golden["english_top_logits"][-1]
    np.testing.assert_allclose(found - found[0], logits - logits[0], atol=2e-2)


def test_scores_are_the_losses_of_the_reference(exact: SyncGemmaModel, golden: Mapping[str, NDArray[Any]]) -> None:
    scores = exact.score(golden["ppl_input_ids"][:300].tolist())
    np.testing.assert_allclose(-scores, golden["ppl_nll"][:299], atol=2e-2)


def test_it_says_what_the_model_is(model: SyncGemmaModel) -> None:
    info = model.info
    assert (info.family, info.n_layers, info.hidden_dim, info.vocab_size) == ("gemma3", 18, 640, 262144)
    assert (info.context, info.arithmetic, info.generates) == (32768, "int8", True)
    assert info.n_parameters == pytest.approx(268e6, rel=0.01)
    assert {model.tokenizer.id_of("<eos>"), model.tokenizer.id_of("<end_of_turn>")} <= model.stop_ids


def test_a_warm_cache_and_any_number_of_threads_change_nothing(
    gemma_270m_path: Path, golden: Mapping[str, NDArray[Any]]
) -> None:
    """Prompts longer than the sliding window, a shorter one after a longer one, and one that goes another way."""
    text = golden["ppl_input_ids"].tolist()
    prompts = [text[:700], text[:700], text[:900], text[:650], [*text[:600], *text[1000:1100]], text[: WINDOW - 12]]
    options: dict[str, Any] = {"max_tokens": 4, "seed": 1, "logprobs": 2, "stop_ids": ()}
    with SyncGemmaModel(gemma_270m_path, context=2048, threads=2) as warm:
        found = [warm.complete(prompt, **options) for prompt in prompts]
    assert sum(each.usage.cached_tokens for each in found) > 1000
    for prompt, each in zip(prompts, found, strict=True):
        with SyncGemmaModel(gemma_270m_path, context=1024, threads=1) as cold:
            expected = cold.complete(prompt, **options)
        assert (each.text, each.logprobs) == (expected.text, expected.logprobs)


def test_a_long_answer_is_written_again_after_computing_one_token(
    model: SyncGemmaModel, golden: Mapping[str, NDArray[Any]]
) -> None:
    """The prompt and the answer are each more than the sliding layers keep beside their window; then an edited prompt."""
    prompt = golden["ppl_input_ids"][:1000].tolist()
    edited = [*prompt[:-100], *prompt[:50]]
    options: dict[str, Any] = {"max_tokens": 300, "temperature": 0, "logprobs": 0, "stop_ids": ()}
    answers = [model.complete(ids, **options) for ids in (prompt, prompt, edited, prompt)]
    assert [each.usage.cached_tokens for each in answers[1:]] == [999, 900, 900]
    assert answers[0].token_ids == answers[1].token_ids == answers[3].token_ids
    assert answers[0].logprobs == answers[1].logprobs == answers[3].logprobs
    assert answers[2].token_ids != answers[0].token_ids


def test_each_turn_of_a_chat_computes_only_what_is_new(model: SyncGemmaModel) -> None:
    messages = [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "Name a colour."}]
    for turn in range(3):
        answer = model.chat(messages, max_tokens=8, temperature=0)
        assert (answer.usage.cached_tokens > 20) == (turn > 0)
        assert answer.timings.prefill_tokens < 40
        messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "Another."}]


def test_ctrl_c_ends_a_long_prefill_at_once_and_leaves_the_model_usable(model: SyncGemmaModel) -> None:
    times: list[float] = []

    def interrupt() -> None:
        times.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    before = model.generate("The capital of France is", max_tokens=6, temperature=0)
    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.complete([2, *range(1000, 21_000)], max_tokens=1)
    assert time.perf_counter() - times[0] < 2
    assert model.generate("The capital of France is", max_tokens=6, temperature=0) == before


def test_prompted_texts_have_the_vectors_of_the_reference(embedder: EmbeddingModel, data_path: Path) -> None:
    with np.load(data_path / "real" / "embeddinggemma-300m" / "golden.npz") as golden:
        for kind, name, embed in (
            ("query", "query", embedder.embed_query),
            ("document", "document", embedder.embed_documents),
        ):
            ids = np.split(golden[f"{kind}_ids"], np.cumsum(golden[f"{kind}_lengths"])[:-1])[:8]
            prompt = embedder.prompts[name]
            texts = [embedder.tokenizer.decode(each.tolist()) for each in ids]
            assert all(text.startswith(prompt) for text in texts)
            vectors = embed([text.removeprefix(prompt) for text in texts])
            assert (vectors * golden[kind][:8]).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("dimensions", [768, 512, 256, 128])
def test_a_question_is_nearest_to_its_answer(embedder: EmbeddingModel, dimensions: int) -> None:
    """At each of the sizes that the model was trained for."""
    answers = [
        "Paris is the capital and most populous city of France.",
        "list.reverse() works in place.",
        "富士山は標高3776メートルで、日本の最高峰である。",
        "Ein weich gekochtes Ei braucht etwa fünf Minuten.",
    ]
    questions = [
        "What is the capital of France?",
        "how do I reverse a list in Python",
        "日本で一番高い山は何ですか",
        "wie lange kocht man ein Ei",
    ]
    asked = embedder.embed_query(questions, dimensions=dimensions)
    similarities = asked @ embedder.embed_documents(answers, dimensions=dimensions).T
    assert similarities.argmax(axis=1).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-5)
