"""The real models against the reference implementation: Gemma 3 270M in Q4_K_M, EmbeddingGemma 300M in float32.

The goldens hold the 20 greatest logits of every position of six prompts, and the losses of a text of 1684 tokens.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models import best_of

from mogemma._native import Wanted
from mogemma.checkpoint import open_checkpoint
from mogemma.embed import Embedder
from mogemma.model import SyncGemmaModel
from mogemma.sampling import Sampler
from mogemma.session import Runner, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from blocks import Floats
    from numpy.typing import NDArray

PROMPTS = ("english", "code", "japanese", "emoji_bytes", "whitespace", "long")
PERPLEXITY = 19.11098
"""Of the reference implementation in float32."""

AT_ONCE = 64
"""Tokens whose logits are kept: those of one take a megabyte."""


@pytest.fixture(scope="module")
def gemma_golden(data_path: Path) -> dict[str, NDArray[Any]]:
    with np.load(data_path / "real" / "gemma-3-270m" / "golden.npz") as arrays:
        return dict(arrays)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Runner]:
    with open_checkpoint(path) as checkpoint, Runner(checkpoint, **options) as runner:
        yield runner


@pytest.fixture(scope="module")
def exact(gemma_270m_path: Path) -> Iterator[Runner]:
    with opened(gemma_270m_path, arithmetic="float32", cache="f32", context=2048) as runner:
        yield runner


@pytest.fixture(scope="module")
def fast(gemma_270m_path: Path) -> Iterator[Runner]:
    """As the library runs it by default."""
    with opened(gemma_270m_path, context=2048) as runner:
        assert runner.arithmetic == "int8"
        yield runner


def logits_in_pieces(runner: Runner, ids: Sequence[int]) -> Iterator[Floats]:
    """Logits of all tokens, some at a time."""
    session = Session(runner)
    for first in range(0, len(ids), AT_ONCE):
        yield session.logits(ids[first : first + AT_ONCE])
    session.close()


def losses(logits: Floats, targets: Sequence[int]) -> Floats:
    """What each of the first tokens says against the one that follows it."""
    rows = logits[: len(targets)]
    top = rows.max(axis=1)
    log_sums: Floats = top + np.log(np.exp(rows - top[:, None]).sum(axis=1, dtype=np.float64))
    return log_sums - rows[np.arange(len(targets)), list(targets)]


@pytest.fixture(scope="module")
def text_run(fast: Runner, gemma_golden: dict[str, NDArray[Any]]) -> tuple[Floats, NDArray[np.int64]]:
    """Losses and likeliest tokens of the long text with int8 arithmetic."""
    return run_text(fast, gemma_golden["ppl_input_ids"].tolist())


def run_text(runner: Runner, ids: Sequence[int]) -> tuple[Floats, NDArray[np.int64]]:
    all_losses, likeliest = [], []
    for index, logits in enumerate(logits_in_pieces(runner, ids)):
        first = index * AT_ONCE
        all_losses.append(losses(logits, ids[first + 1 : first + 1 + AT_ONCE]))
        likeliest.append(logits.argmax(axis=1))
    return np.concatenate(all_losses), np.concatenate(likeliest)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_float32_logits_of_gemma_3_270m_are_those_of_the_reference_implementation(
    exact: Runner, gemma_golden: dict[str, NDArray[Any]], prompt: str
) -> None:
    """The twenty greatest at every position, of logits around 20."""
    ids, expected = gemma_golden[f"{prompt}_top_ids"], gemma_golden[f"{prompt}_top_logits"]
    pieces = logits_in_pieces(exact, gemma_golden[f"{prompt}_input_ids"].tolist())
    for index, logits in enumerate(pieces):
        rows = slice(index * AT_ONCE, (index + 1) * AT_ONCE)
        assert np.abs(np.take_along_axis(logits, ids[rows], axis=1) - expected[rows]).max() < 2e-3


@pytest.mark.parametrize("prompt", PROMPTS[:5])
def test_greedy_decoding_of_gemma_3_270m_takes_the_tokens_of_the_reference_implementation(
    exact: Runner, gemma_golden: dict[str, NDArray[Any]], prompt: str
) -> None:
    session = Session(exact)
    logits = session.prefill(gemma_golden[f"{prompt}_input_ids"].tolist())
    taken = []
    for _ in gemma_golden[f"{prompt}_greedy_ids"]:
        taken.append(int(logits.argmax()))
        logits = session.decode(taken[-1])
    session.close()
    assert taken == gemma_golden[f"{prompt}_greedy_ids"].tolist()


def test_float32_losses_of_a_long_text_are_those_of_the_reference_implementation(
    exact: Runner, gemma_golden: dict[str, NDArray[Any]], text_run: tuple[Floats, NDArray[np.int64]]
) -> None:
    """1684 tokens: windows of 512 slide three times over. The int8 run is held to this one's choices meanwhile."""
    all_losses, likeliest = run_text(exact, gemma_golden["ppl_input_ids"].tolist())
    assert np.abs(all_losses - gemma_golden["ppl_nll"]).max() < 2e-3
    assert np.exp(all_losses.mean()) == pytest.approx(PERPLEXITY, rel=1e-5)
    assert np.mean(text_run[1] == likeliest) >= 0.965


def test_int8_arithmetic_costs_less_than_half_a_percent_of_perplexity(
    text_run: tuple[Floats, NDArray[np.int64]],
) -> None:
    assert np.exp(text_run[0].mean()) == pytest.approx(PERPLEXITY, rel=0.005)


def test_int8_arithmetic_seldom_changes_the_likeliest_token(
    fast: Runner, gemma_golden: dict[str, NDArray[Any]]
) -> None:
    """Where it does, two tokens were about equally likely."""
    agree = []
    for prompt in PROMPTS:
        likeliest = gemma_golden[f"{prompt}_top_ids"][:, 0]
        pieces = logits_in_pieces(fast, gemma_golden[f"{prompt}_input_ids"].tolist())
        agree.append(np.concatenate([logits.argmax(axis=1) for logits in pieces]) == likeliest)
    assert np.concatenate(agree).mean() >= 0.965


def test_a_real_model_decodes_what_it_prefills_to_the_bit(fast: Runner, gemma_golden: dict[str, NDArray[Any]]) -> None:
    ids = gemma_golden["english_input_ids"].tolist()
    session, other = Session(fast), Session(fast)
    expected = session.logits(ids)
    for token, row in zip(ids, expected, strict=True):
        assert np.array_equal(other.decode(token), row)
    session.close()
    other.close()


def test_a_real_head_read_in_part_gives_the_best_of_all_logits(
    fast: Runner, gemma_golden: dict[str, NDArray[Any]]
) -> None:
    """The same ids and bits, and for most tokens from few of its 262,144 rows."""
    n_finished: dict[int, list[int]] = {1: [], 64: []}
    also = np.array([2, 107, 1000, 262143], np.int32)
    for prompt in ("english", "code", "japanese", "ppl"):
        ids = gemma_golden[f"{prompt}_input_ids"].tolist()[:64]
        whole, part = Session(fast), Session(fast)
        for token in ids:
            logits = whole.decode(token)
            for k, counts in n_finished.items():
                wanted = Wanted(k, fast.spec.vocab_size, also)
                best, expected = part.best([token], wanted), best_of(logits, wanted)
                assert np.array_equal(best.ids, expected.ids)
                assert np.array_equal(best.values, expected.values)
                assert np.array_equal(best.also_values, expected.also_values)
                counts.append(best.n_finished)
                part.rewind(part.position - 1)
            part.prefill([token])
        whole.close()
        part.close()
    assert len(n_finished[1]) >= 100
    assert np.median(n_finished[1]) < 262144 / 64
    assert np.median(n_finished[64]) < 262144 / 8


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"seed": 1},
        {"temperature": 0.0, "repetition_penalty": 1.3, "logit_bias": {236743: -5.0, 506: 2.0, 7: -np.inf}},
        {"seed": 2, "top_k": 512, "frequency_penalty": 0.5, "presence_penalty": 0.2, "temperature": 1.5},
    ],
)
def test_a_text_is_the_same_from_the_best_logits_and_from_all(
    gemma_270m_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with SyncGemmaModel(gemma_270m_path, context=512) as model:
        texts = [model.complete("The sea", max_tokens=40, stop_ids=[], **options).token_ids]
        monkeypatch.setattr(Sampler, "wanted", lambda sampler: None)
        texts.append(model.complete("The sea", max_tokens=40, stop_ids=[], **options).token_ids)
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 0.9999),
        ({"arithmetic": "bfloat16"}, 0.9999),
        ({"quantize": "q8_0"}, 0.999),
        ({"quantize": "q6_k"}, 0.996),
        ({"quantize": "q4_k"}, 0.94),
        ({"quantize": "q4_0"}, 0.88),
    ],
    ids=["float32", "bfloat16", "q8_0", "q6_k", "q4_k", "q4_0"],
)
def test_embeddinggemma_gives_the_vectors_of_the_reference_implementation(
    embeddinggemma_path: Path, data_path: Path, options: dict[str, Any], least: float
) -> None:
    """Texts of 9 to 1539 tokens, batched by length: the least cosine with float32 of another library.

    The mean of all is 0.9998 for q8_0, 0.9990 for q6_k, 0.985 for q4_k and 0.973 for q4_0.
    """
    with np.load(data_path / "real" / "embeddinggemma-300m" / "golden.npz") as golden:
        kinds = ("query", "document", "no_prompt")
        ids = np.concatenate([golden[f"{kind}_ids"] for kind in kinds])
        lengths = np.concatenate([golden[f"{kind}_lengths"] for kind in kinds])
        expected = np.concatenate([golden[kind] for kind in kinds])
    assert len(expected) == 32
    texts = [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]
    with opened(embeddinggemma_path, max_tokens=2048, embeds="required", **options) as runner:
        vectors = Embedder(runner).embed(texts)
        alone = Embedder(runner).embed(texts[:1])
    assert (vectors * expected).sum(axis=1).min() >= least
    assert np.array_equal(alone[0], vectors[0])
