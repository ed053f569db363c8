"""A model that embeds, through the class that a user holds: EmbeddingGemma against goldens, and what bad input gets."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import EMBEDDING_GEMMA, GEMMA, TINY, copy_folder, copy_gguf

from mogemma import (
    ConfigError,
    ContextFullError,
    EmbeddingConfig,
    EmbeddingModel,
    GenerationConfig,
    ModelClosedError,
    ModelFormatError,
    SyncGemmaModel,
    TokenizerError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

DIMENSIONS = 36
CONTEXT = 256
TEXTS = ["a", "some words of a text", "", "the sea " * 20, "a text", "lighthouse"]


@pytest.fixture(scope="module", params=["model.safetensors", "model.gguf"])
def model(request: pytest.FixtureRequest) -> Iterator[EmbeddingModel]:
    """The tiny EmbeddingGemma, from each kind of file."""
    name = str(request.param)
    path = EMBEDDING_GEMMA if name.endswith("safetensors") else EMBEDDING_GEMMA / name
    with EmbeddingModel(path, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def golden() -> Mapping[str, NDArray[Any]]:
    with np.load(EMBEDDING_GEMMA / "golden.npz") as file:
        return dict(file)


def ids_of(golden: Mapping[str, NDArray[Any]]) -> list[list[int]]:
    """The sequences without their padding."""
    return [ids[: mask.sum()].tolist() for ids, mask in zip(golden["input_ids"], golden["attention_mask"], strict=True)]


def test_vectors_are_those_of_the_reference(model: EmbeddingModel, golden: Mapping[str, NDArray[Any]]) -> None:
    vectors = model.embed(ids_of(golden))
    assert vectors.shape == (2, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, golden["embedding"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dimensions", [9, 18])
def test_shorter_vectors_are_those_of_the_reference(
    model: EmbeddingModel, golden: Mapping[str, NDArray[Any]], dimensions: int
) -> None:
    vectors = model.embed(ids_of(golden), dimensions=dimensions)
    np.testing.assert_allclose(vectors, golden[f"embedding_{dimensions}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dimensions", [1, 2, 35, 36, None])
def test_vectors_of_any_size_have_unit_length(model: EmbeddingModel, dimensions: int | None) -> None:
    vectors = model.embed(TEXTS, dimensions=dimensions)
    assert vectors.shape == (len(TEXTS), dimensions or DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_vectors_keep_the_order_of_the_texts_whatever_their_lengths(model: EmbeddingModel) -> None:
    alone = {text: model.embed(text) for text in TEXTS}
    for texts in itertools.islice(itertools.permutations(TEXTS), 0, 720, 60):
        assert np.array_equal(model.embed(texts), [alone[text] for text in texts])


def test_a_text_gets_the_same_vector_alone_as_among_others_to_the_bit() -> None:
    """Whatever shares its forward pass, and however many passes there are."""
    texts = [f"{'again ' * (i % 17)}and text {i}" for i in range(60)]
    with EmbeddingModel(EMBEDDING_GEMMA, threads=1) as model:
        alone = [model.embed(text) for text in texts]
    for options in ({"batch_tokens": 64}, {"batch_tokens": 4096}, {"threads": 2}, {"threads": 3, "batch_tokens": 1}):
        with EmbeddingModel(EMBEDDING_GEMMA, **{"threads": 1, **options}) as model:
            assert np.array_equal(model.embed(texts), alone)


def test_a_folder_and_a_gguf_file_give_the_same_vectors() -> None:
    with (
        EmbeddingModel(EMBEDDING_GEMMA, threads=1) as folder,
        EmbeddingModel(EMBEDDING_GEMMA / "model.gguf", threads=1) as file,
    ):
        np.testing.assert_allclose(folder.embed(TEXTS), file.embed(TEXTS), atol=1e-6)


def test_a_single_text_gives_a_single_vector(model: EmbeddingModel) -> None:
    assert model.embed("a").shape == (DIMENSIONS,)
    assert np.array_equal(model.embed("a"), model.embed(["a"])[0])
    assert model.embed("a", dimensions=7).shape == model.embed_query("a", dimensions=7).shape == (7,)


def test_no_texts_give_no_vectors(model: EmbeddingModel) -> None:
    assert model.embed([]).shape == (0, DIMENSIONS)
    assert model.embed([], dimensions=5).shape == (0, 5)
    assert model.embed_documents([], titles=[]).shape == (0, DIMENSIONS)


def test_an_empty_text_is_its_special_tokens(model: EmbeddingModel) -> None:
    assert np.array_equal(model.embed(""), model.embed([[2, 1]])[0])


def test_a_text_is_read_between_bos_and_eos(model: EmbeddingModel) -> None:
    ids = model.tokenizer.encode("some text")
    assert (ids[0], ids[-1], len(ids)) == (2, 1, model.count_tokens("some text"))
    assert np.array_equal(model.embed("some text"), model.embed([ids])[0])


def test_queries_and_documents_get_the_models_own_prompts(model: EmbeddingModel) -> None:
    assert np.array_equal(model.embed_query("a"), model.embed("task: search result | query: a"))
    assert np.array_equal(model.embed_query(["a", "b"])[1], model.embed_query("b"))
    documents = ["title: none | text: a", "title: none | text: b"]
    assert np.array_equal(model.embed_documents(["a", "b"]), model.embed(documents))


def test_documents_may_have_titles(model: EmbeddingModel) -> None:
    expected = model.embed(["title: The sea | text: a", "title: none | text: b"])
    assert np.array_equal(model.embed_documents(["a", "b"], titles=["The sea", None]), expected)
    for texts, titles in ((["a", "b"], ["only one"]), (["a"], []), ("a", ["t"])):
        with pytest.raises(ConfigError, match=r"titles; give one"):
            model.embed_documents(texts, titles=titles)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("query", "task: search result | query: "),
        ("document", "title: none | text: "),
        ("clustering", "task: clustering | query: "),
        ("sentence similarity", "task: sentence similarity | query: "),
    ],
)
def test_a_prompt_is_called_by_its_name(model: EmbeddingModel, name: str, words: str) -> None:
    assert np.array_equal(model.embed("a", prompt=name), model.embed(f"{words}a"))
    assert not np.array_equal(model.embed("a", prompt=name), model.embed("a"))


def test_an_unknown_prompt_is_answered_with_the_known_ones(model: EmbeddingModel) -> None:
    with pytest.raises(ConfigError, match=r"'haiku'.*document, query"):
        model.embed("a", prompt="haiku")


def test_the_names_in_a_models_own_files_are_among_the_known_ones(tmp_path: Path) -> None:
    folder = copy_folder(EMBEDDING_GEMMA, tmp_path / "model")
    prompts = {"prompts": {"query": "look for: ", "Retrieval-query": "q: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    with EmbeddingModel(folder, threads=1) as model, pytest.raises(ConfigError) as caught:
        model.embed("a", prompt="retrieval.query")
    assert str(caught.value).count("query") == 3, "asked for, built in, and in the file"
    assert "Retrieval-query" in str(caught.value)


def test_prompts_that_a_models_own_files_name_come_first(tmp_path: Path) -> None:
    folder = copy_folder(EMBEDDING_GEMMA, tmp_path / "model")
    prompts = {"prompts": {"query": "look for: ", "haiku": "5 7 5: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    with EmbeddingModel(folder, threads=1) as model:
        assert model.prompts == prompts["prompts"]
        assert np.array_equal(model.embed_query("a"), model.embed("look for: a"))
        assert np.array_equal(model.embed("a", prompt="haiku"), model.embed("5 7 5: a"))


@pytest.mark.parametrize("content", ['{"prompts": ["a"]}', '{"prompts": {"query": 5}}', '{"prompts": "a"}'])
def test_prompts_that_are_no_texts_are_refused(tmp_path: Path, content: str) -> None:
    folder = copy_folder(EMBEDDING_GEMMA, tmp_path / "model")
    (folder / "config_sentence_transformers.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelFormatError, match=r"'prompts' in config_sentence_transformers\.json"):
        EmbeddingModel(folder)


def test_keywords_override_the_config() -> None:
    config = EmbeddingConfig(EMBEDDING_GEMMA, dimensions=9, prompt="query", threads=1)
    with EmbeddingModel(config) as model, EmbeddingModel(EMBEDDING_GEMMA, threads=1) as plain:
        assert np.array_equal(model.embed("a"), plain.embed_query("a", dimensions=9))
        assert np.array_equal(model.embed("a", dimensions=18), plain.embed_query("a", dimensions=18))
        assert np.array_equal(model.embed_documents(["a"]), plain.embed_documents(["a"], dimensions=9))
        titled = plain.embed_documents(["a"], titles=["t"], dimensions=9)
        assert np.array_equal(model.embed_documents(["a"], titles=["t"]), titled)
    with EmbeddingModel(config, dimensions=4) as model:
        assert model.embed("a").shape == (4,)


def test_a_cut_vector_may_keep_its_length() -> None:
    with EmbeddingModel(EMBEDDING_GEMMA, threads=1, normalize=False) as model:
        assert np.array_equal(model.embed("a", dimensions=9), model.embed("a")[:9])


@pytest.mark.parametrize("dimensions", [0, -1, 37, 2.5, True, "9"])
def test_dimensions_out_of_range_are_refused(model: EmbeddingModel, dimensions: Any) -> None:
    for texts in ("a", ["a"], []):
        with pytest.raises(ConfigError, match=rf"dimensions is {dimensions!r}; .* from 1 to 36"):
            model.embed(texts, dimensions=dimensions)


def test_a_text_longer_than_the_context_is_refused_with_both_numbers(model: EmbeddingModel) -> None:
    longest = [2, *[7] * (CONTEXT - 2), 1]
    assert model.embed([longest]).shape == (1, DIMENSIONS)
    with pytest.raises(ContextFullError, match=rf"Text 1 has {CONTEXT + 1} tokens.*{CONTEXT}.*nothing was cut"):
        model.embed([longest, [*longest, 1]])
    text = "word " * 3000
    with pytest.raises(ContextFullError, match=rf"{model.count_tokens(text)} tokens.*{CONTEXT}"):
        model.embed(text)


@pytest.mark.parametrize(
    "texts", [[[2, 512]], [[-1]], [[]], [[2.5]], [None], [2, 3], b"ab", [[[2]]], [[2], [2**70]]], ids=str
)
def test_what_is_neither_text_nor_token_ids_is_refused(model: EmbeddingModel, texts: Any) -> None:
    with pytest.raises(TokenizerError, match=r"[Tt]oken id"):
        model.embed(texts)


def test_lone_surrogates_are_refused(model: EmbeddingModel) -> None:
    for call in (model.embed, model.embed_query, lambda text: model.embed_documents([text])):
        with pytest.raises(TokenizerError, match="lone surrogate"):
            call("\udcff")


def test_a_model_without_a_tokenizer_embeds_ids_and_says_so_when_text_comes(
    tmp_path: Path, golden: Mapping[str, NDArray[Any]]
) -> None:
    folder = copy_folder(EMBEDDING_GEMMA, tmp_path / "model", leave_out=["tokenizer*"])
    file = copy_gguf(EMBEDDING_GEMMA / "model.gguf", tmp_path / "model.gguf", leave_out=["tokenizer."])
    for path in (folder, file):
        with EmbeddingModel(path, threads=1) as model:
            np.testing.assert_allclose(model.embed(ids_of(golden)), golden["embedding"], atol=1e-5)
            with pytest.raises(TokenizerError, match="token"):
                model.embed("text")


class TestWithoutDenseHeads:
    """As files have it that were converted without them; only when asked."""

    @pytest.fixture(params=["a folder with heads", "a folder without", "a file with heads", "a file without"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        if "file" in request.param:
            leave_out = ["dense_2.weight", "dense_3.weight"] if request.param.endswith("without") else []
            return copy_gguf(EMBEDDING_GEMMA / "model.gguf", tmp_path / "model.gguf", leave_out=leave_out)
        leave_out = ["2_Dense", "3_Dense"] if request.param.endswith("without") else []
        return copy_folder(EMBEDDING_GEMMA, tmp_path / "model", leave_out=leave_out)

    def test_vectors_are_the_mean_hidden_states_of_the_reference(
        self, path: Path, golden: Mapping[str, NDArray[Any]]
    ) -> None:
        pooled = golden["pooled"] / np.linalg.norm(golden["pooled"], axis=1, keepdims=True)
        with EmbeddingModel(path, threads=1, dense="skip") as model:
            assert (model.info.dense_heads, model.info.embedding_dim) == (0, DIMENSIONS)
            np.testing.assert_allclose(model.embed(ids_of(golden)), pooled, rtol=0, atol=1e-5)

    def test_they_are_other_vectors(self, model: EmbeddingModel) -> None:
        with EmbeddingModel(EMBEDDING_GEMMA, threads=1, dense="skip") as plain:
            assert np.abs(model.embed("a") - plain.embed("a")).max() > 0.01

    def test_a_head_among_the_models_own_weights_stays(self) -> None:
        path = TINY / "embeddinggemma2"
        with EmbeddingModel(path, threads=1, dense="skip") as model, EmbeddingModel(path, threads=1) as plain:
            assert model.info.dense_heads == 1
            assert np.array_equal(model.embed([[2, 7, 1]]), plain.embed([[2, 7, 1]]))

    def test_unasked_they_are_refused_with_the_way_out(self, tmp_path: Path) -> None:
        path = copy_gguf(
            EMBEDDING_GEMMA / "model.gguf", tmp_path / "m.gguf", leave_out=["dense_2.weight", "dense_3.weight"]
        )
        with pytest.raises(UnsupportedModelError, match=r"no dense heads.*dense='skip'"):
            EmbeddingModel(path)
        with pytest.raises(ConfigError, match=r"dense is 'never'.*required.*skip"):
            EmbeddingModel(path, dense="never")


def test_a_model_that_writes_embeds_by_its_mean_hidden_state(tmp_path: Path) -> None:
    """Its vectors are no retrieval vectors: the description says that it has no heads for them."""
    for path in (GEMMA, GEMMA / "model.gguf"):
        with EmbeddingModel(path, threads=1) as model:
            assert (model.info.dense_heads, model.info.embedding_dim, model.info.generates) == (0, 40, True)
            assert np.array_equal(model.embed(TEXTS), [model.embed(text) for text in TEXTS])
            np.testing.assert_allclose(np.linalg.norm(model.embed(TEXTS), axis=1), 1, atol=1e-6)
    with np.load(GEMMA / "golden.npz") as golden, EmbeddingModel(GEMMA, threads=1) as model:
        mean = golden["h_final"].mean(axis=0)
        np.testing.assert_allclose(
            model.embed([golden["input_ids"].tolist()])[0], mean / np.linalg.norm(mean), atol=1e-5
        )


def test_a_model_that_embeds_cannot_write() -> None:
    for path in (EMBEDDING_GEMMA, EMBEDDING_GEMMA / "model.gguf"):
        with pytest.raises(
            UnsupportedModelError, match=r"embeds text and cannot generate\. Load it with EmbeddingModel"
        ):
            SyncGemmaModel(path)


def test_a_config_of_the_other_kind_is_refused() -> None:
    writes: Any = GenerationConfig(EMBEDDING_GEMMA)
    embeds: Any = EmbeddingConfig(GEMMA)
    with pytest.raises(ConfigError, match="GenerationConfig"):
        EmbeddingModel(writes)
    with pytest.raises(ConfigError, match="EmbeddingConfig"):
        SyncGemmaModel(embeds)
    with pytest.raises(ConfigError, match=r"'temperature'.*generate text"):
        EmbeddingModel(EMBEDDING_GEMMA, temperature=1.0)


def test_damaged_weights_are_an_error_and_no_vector(tmp_path: Path) -> None:
    damaged = {"output_norm.weight": np.full(DIMENSIONS, np.nan, np.float32)}
    path = copy_gguf(EMBEDDING_GEMMA / "model.gguf", tmp_path / "model.gguf", tensors=damaged)
    with EmbeddingModel(path, threads=1) as model, pytest.raises(ModelFormatError, match="not finite"):
        model.embed("a")


def test_progress_is_reported_in_texts() -> None:
    calls: list[tuple[int, int]] = []
    with EmbeddingModel(EMBEDDING_GEMMA, threads=1, batch_tokens=1) as model:
        model.embed([[2, *[7] * 200, 1]] * 10, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 10) for n in range(1, 11)]


def test_a_closed_model_is_an_error_in_every_method() -> None:
    with EmbeddingModel(EMBEDDING_GEMMA, threads=1) as model:
        pass
    uses: list[Callable[[], object]] = [
        lambda: model.embed("a"),
        lambda: model.embed([]),
        lambda: model.embed([[2]]),
        lambda: model.embed_query("a"),
        lambda: model.embed_documents(["a"]),
        lambda: model.embed_documents(["a"], titles=["t"]),
        lambda: model.count_tokens("a"),
        lambda: model.tokenizer,
        lambda: model.info,
    ]
    for use in uses:
        with pytest.raises(ModelClosedError, match=r"closed.*Load it again"):
            use()
    model.close()
