"""Embeddings against golden vectors; and that what shares a batch changes no bit of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference

from mogemma._native import Cancel
from mogemma.checkpoint import open_checkpoint
from mogemma.embed import Embedder
from mogemma.errors import CancelledError, ConfigError, ContextFullError, ModelClosedError, TokenizerError
from mogemma.session import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks import Floats
    from numpy.typing import NDArray

DIMENSIONS = 36
CONTEXT = 256

both_files = pytest.mark.parametrize("file", ["", "model.gguf"], ids=["safetensors", "gguf"])


@pytest.fixture(scope="module")
def folder(data_path: Path) -> Path:
    return data_path / "tiny" / "embeddinggemma"


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Embedder]:
    """Whole texts in one pass, as embedding wants it."""
    options = {"threads": 1, "arithmetic": "float32", "max_tokens": CONTEXT, **options}
    with open_checkpoint(path) as checkpoint, Runner(checkpoint, **options) as runner:
        yield Embedder(runner)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Iterator[Embedder]:
    with opened(folder) as made:
        yield made


@pytest.fixture(scope="module")
def golden(folder: Path) -> dict[str, NDArray[Any]]:
    with np.load(folder / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def golden_texts(golden: dict[str, NDArray[Any]]) -> list[list[int]]:
    """The goldens pad to the right; an engine needs no padding."""
    rows = zip(golden["input_ids"], golden["attention_mask"], strict=True)
    return [ids[mask > 0].tolist() for ids, mask in rows]


def texts(*lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(lengths)
    return [rng.integers(4, 512, n).tolist() for n in lengths]


@both_files
def test_vectors_are_those_of_the_reference_implementation(
    folder: Path, level: str, file: str, golden: dict[str, NDArray[Any]], golden_texts: list[list[int]]
) -> None:
    with opened(folder / file, level=level) as embedder:
        assert np.abs(embedder.embed(golden_texts) - golden["embedding"]).max() < 1e-5


@both_files
@pytest.mark.parametrize("dimensions", [18, 9])
def test_shorter_vectors_are_the_beginning_at_unit_length(
    folder: Path, file: str, dimensions: int, golden: dict[str, NDArray[Any]], golden_texts: list[list[int]]
) -> None:
    with opened(folder / file) as embedder:
        vectors = embedder.embed(golden_texts, dimensions=dimensions)
    assert np.abs(vectors - golden[f"embedding_{dimensions}"]).max() < 1e-5


@pytest.mark.parametrize("n_tokens", [1, 2, 9, 33, CONTEXT])
def test_windows_that_reach_both_ways_see_the_right_keys(folder: Path, level: str, n_tokens: int) -> None:
    (text,) = texts(n_tokens)
    with opened(folder, level=level) as embedder:
        assert np.abs(embedder.embed([text]) - reference.embedding(reference.read_gemma3(folder), text)).max() < 1e-5


def test_every_vector_has_unit_length(embedder: Embedder) -> None:
    for dimensions in (1, 7, DIMENSIONS):
        vectors = embedder.embed(texts(3, 50, 8), dimensions=dimensions)
        assert vectors.shape == (3, dimensions)
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_a_cut_vector_can_be_left_as_it_is(embedder: Embedder) -> None:
    whole = embedder.embed(texts(5))
    assert np.array_equal(embedder.embed(texts(5), dimensions=7, normalize=False), whole[:, :7])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_text_in_a_batch_gets_the_vector_it_gets_alone(folder: Path, level: str, threads: int) -> None:
    """In any company, in any order, on any threads, to the bit."""
    many = texts(3, 40, 1, 17, 3, 100, 64, 65, 2, 31)
    with opened(folder, level=level) as one_by_one:
        expected = np.concatenate([one_by_one.embed([text]) for text in many])
    with opened(folder, level=level, threads=threads) as embedder:
        assert np.array_equal(embedder.embed(many), expected)
        assert np.array_equal(embedder.embed(many[::-1]), expected[::-1])


@pytest.mark.parametrize(("max_tokens", "max_outputs"), [(256, 1), (256, 3), (300, 300)])
def test_how_texts_are_batched_does_not_change_a_bit(
    folder: Path, embedder: Embedder, max_tokens: int, max_outputs: int
) -> None:
    many = texts(*range(1, 60, 3), 200, 256)
    with opened(folder, max_tokens=max_tokens, max_outputs=max_outputs) as other:
        assert np.array_equal(other.embed(many), embedder.embed(many))


def test_results_come_in_the_order_of_the_texts(embedder: Embedder) -> None:
    many = texts(40, 3, 90, 7)
    vectors = embedder.embed(many)
    for text, vector in zip(many, vectors, strict=True):
        assert np.array_equal(embedder.embed([text])[0], vector)


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, DIMENSIONS)
    assert embedder.embed([], dimensions=5).shape == (0, 5)


def test_a_text_that_is_too_long_is_an_error_that_says_which_and_nothing_is_computed(embedder: Embedder) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(ContextFullError, match=f"Text 2 has {CONTEXT + 1} tokens, this model holds {CONTEXT}"):
        embedder.embed(texts(3, 4, CONTEXT + 1), on_progress=lambda *done: told.append(done))
    assert told == []


@pytest.mark.parametrize("dimensions", [0, -1, DIMENSIONS + 1])
def test_dimensions_out_of_range_are_refused(embedder: Embedder, dimensions: int) -> None:
    with pytest.raises(ConfigError, match=f"dimensions.* {dimensions}.*{DIMENSIONS}"):
        embedder.embed(texts(3), dimensions=dimensions)


@pytest.mark.parametrize("bad", [[], [-1], [512], [2.5]])
def test_a_text_that_is_no_tokens_is_refused(embedder: Embedder, bad: list[Any]) -> None:
    with pytest.raises(TokenizerError):
        embedder.embed([[1, 2], bad])


def test_progress_is_told_in_texts_up_to_all_of_them(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    with opened(folder, max_outputs=2) as embedder:
        embedder.embed(texts(3, 4, 5, 6, 7), on_progress=lambda *done: told.append(done))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_a_cancelled_call_leaves_the_embedder_usable(embedder: Embedder) -> None:
    expected: Floats = embedder.embed(texts(9))
    cancel = Cancel()
    cancel.set()
    with pytest.raises(CancelledError):
        embedder.embed(texts(9), cancel=cancel)
    assert np.array_equal(embedder.embed(texts(9)), expected)


def test_a_closed_model_is_an_error(folder: Path) -> None:
    with opened(folder) as embedder:
        pass
    with pytest.raises(ModelClosedError):
        embedder.embed(texts(3))
