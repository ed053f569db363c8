"""A model that writes, through the class that a user holds: tiny checkpoints against goldens, and what bad input gets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import GEMMA, QUANT_ZOO, copy_folder, copy_gguf, copy_with_fewer_pieces

from mogemma import (
    Completion,
    ConfigError,
    ContextFullError,
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

EXACT: Mapping[str, Any] = {"arithmetic": "float32", "cache": "f32", "threads": 1}
PROMPT = "Once upon a time there was a lighthouse"
CONTEXT = 256


@pytest.fixture(scope="module", params=["model.safetensors", "model.gguf"])
def model(request: pytest.FixtureRequest) -> Iterator[SyncGemmaModel]:
    """The tiny Gemma 3, from each kind of file."""
    name = str(request.param)
    with SyncGemmaModel(GEMMA if name.endswith("safetensors") else GEMMA / name, **EXACT) as model:
        yield model


@pytest.fixture(scope="module")
def golden() -> Mapping[str, NDArray[Any]]:
    with np.load(GEMMA / "golden.npz") as file:
        return dict(file)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    return np.asarray(exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True)))


def test_logits_are_those_of_the_reference(model: SyncGemmaModel, golden: Mapping[str, NDArray[Any]]) -> None:
    logits = model.logits(golden["input_ids"].tolist())
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


def test_greedy_tokens_are_those_of_the_reference(model: SyncGemmaModel, golden: Mapping[str, NDArray[Any]]) -> None:
    completion = model.complete(golden["input_ids"].tolist(), temperature=0, max_tokens=8)
    assert completion.token_ids == tuple(golden["greedy_ids"])


def test_int8_logits_of_quantised_weights_are_close_to_the_reference() -> None:
    """15 block formats. 8-bit activations cost about a hundredth of the logits' spread, which is 1 here."""
    with np.load(QUANT_ZOO / "golden.npz") as golden, SyncGemmaModel(QUANT_ZOO / "model.gguf") as model:
        logits = model.logits(golden["input_ids"].tolist())
        assert np.sqrt(np.mean((logits - golden["logits"]) ** 2)) < 0.05 * golden["logits"].std()


def test_float32_logits_of_quantised_weights_are_those_of_the_reference() -> None:
    with np.load(QUANT_ZOO / "golden.npz") as golden, SyncGemmaModel(QUANT_ZOO / "model.gguf", **EXACT) as model:
        logits = model.logits(golden["input_ids"].tolist())
        np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


def test_a_folder_and_a_gguf_file_write_the_same_text() -> None:
    with SyncGemmaModel(GEMMA, **EXACT) as folder, SyncGemmaModel(GEMMA / "model.gguf", **EXACT) as file:
        assert np.array_equal(folder.logits([2, 300, 17]), file.logits([2, 300, 17]))
        for seed in range(3):
            options: dict[str, Any] = {"seed": seed, "max_tokens": 40}
            assert folder.generate(PROMPT, **options) == file.generate(PROMPT, **options)


def test_the_pieces_of_a_stream_joined_are_the_text(model: SyncGemmaModel) -> None:
    for seed in range(3):
        pieces = list(model.generate_stream(PROMPT, seed=seed, max_tokens=40))
        assert all(pieces)
        assert "".join(pieces) == model.generate(PROMPT, seed=seed, max_tokens=40)


def test_a_seed_reproduces_its_text_and_another_gives_another(model: SyncGemmaModel) -> None:
    first = model.complete(PROMPT, max_tokens=30, seed=7)
    assert first.seed == 7
    assert model.complete(PROMPT, max_tokens=30, seed=7).token_ids == first.token_ids
    assert model.complete(PROMPT, max_tokens=30, seed=8).token_ids != first.token_ids


def test_a_text_without_a_seed_can_be_had_again_by_the_seed_it_reports(model: SyncGemmaModel) -> None:
    first = model.complete(PROMPT, max_tokens=30)
    assert model.complete(PROMPT, max_tokens=30, seed=first.seed).token_ids == first.token_ids
    assert model.complete(PROMPT, max_tokens=30).seed != first.seed


def test_a_completion_tells_how_it_went(model: SyncGemmaModel) -> None:
    n_prompt = model.count_tokens(PROMPT)
    completion = model.complete(PROMPT, max_tokens=12, seed=0)
    assert str(completion) == completion.text == model.tokenizer.decode(completion.token_ids)
    assert completion.finish_reason == "length"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (n_prompt, 12)
    assert completion.usage.cached_tokens + completion.timings.prefill_tokens == n_prompt
    assert completion.timings.decode_tokens == 11
    assert 0 < completion.timings.prefill_seconds <= completion.timings.time_to_first_token
    assert completion.logprobs is None


def test_a_text_ends_before_its_stop_string(model: SyncGemmaModel) -> None:
    whole = model.generate(PROMPT, max_tokens=40, seed=1)
    stop = whole[20:23]
    completion = model.complete(PROMPT, max_tokens=40, seed=1, stop=[stop, "never to be seen"])
    assert completion.text == whole[: whole.index(stop)]
    assert (completion.finish_reason, completion.stopped_by) == ("stop", stop)
    assert "".join(model.generate_stream(PROMPT, max_tokens=40, seed=1, stop=stop)) == completion.text


def test_a_text_ends_with_a_stop_token_which_is_no_part_of_it(model: SyncGemmaModel) -> None:
    """Which ones those are may be chosen for a call; none at all: then only max_tokens ends it."""
    ids = model.complete(PROMPT, max_tokens=20, seed=1, stop_ids=()).token_ids
    ending = ids[10]
    completion = model.complete(PROMPT, max_tokens=20, seed=1, stop_ids={ending})
    assert completion.token_ids == ids[: ids.index(ending)]
    assert (completion.finish_reason, completion.stopped_by) == ("stop", None)


@pytest.mark.parametrize(
    "stop_ids", [5, "<eos>", ["<eos>"], [1, 512], [-1], [True], [1.0], {1: 2}, b"a", [[1]], [2**70]], ids=str
)
def test_stop_ids_that_are_no_tokens_are_refused(model: SyncGemmaModel, stop_ids: Any) -> None:
    """What could never end a text is none in silence."""
    for max_tokens in (0, 1):
        with pytest.raises(ConfigError, match=r"stop_ids.* token ids, whole numbers from 0 to 511"):
            model.complete(PROMPT, stop_ids=stop_ids, max_tokens=max_tokens)


def test_stop_ids_may_be_numpys_or_come_one_by_one(model: SyncGemmaModel) -> None:
    ids = model.complete(PROMPT, max_tokens=5, seed=1, stop_ids=()).token_ids
    theirs: list[Any] = [np.array(ids[:1]), [np.int32(ids[0])], iter(ids[:1])]
    for stop_ids in theirs:
        assert model.complete(PROMPT, max_tokens=5, seed=1, stop_ids=stop_ids).token_ids == ()


def test_end_of_sequence_and_end_of_turn_end_a_text(model: SyncGemmaModel) -> None:
    for piece in ("<eos>", "<end_of_turn>"):
        token = model.tokenizer.id_of(piece)
        assert token in model.stop_ids
        completion = model.complete(PROMPT, max_tokens=20, logit_bias={token: 1000.0})
        assert (completion.text, completion.finish_reason) == ("", "stop")


def test_generation_config_json_may_list_more_stop_tokens(tmp_path: Path) -> None:
    folder = copy_folder(GEMMA, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 106]}', encoding="utf-8")
    with SyncGemmaModel(folder, threads=1) as model:
        assert {1, 106} <= model.stop_ids


def test_defaults_come_from_the_call_then_the_config_then_the_file(tmp_path: Path) -> None:
    folder = copy_folder(GEMMA, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"temperature": 0, "top_k": 5}', encoding="utf-8")
    with SyncGemmaModel(folder, **EXACT) as by_file, SyncGemmaModel(folder, temperature=1.0, **EXACT) as by_config:
        greedy = by_file.complete(PROMPT, max_tokens=10, seed=1).token_ids
        drawn = by_config.complete(PROMPT, max_tokens=10, seed=1).token_ids
        assert greedy == by_file.complete(PROMPT, max_tokens=10, seed=2).token_ids != drawn
        assert by_file.complete(PROMPT, max_tokens=10, seed=1, temperature=1.0).token_ids == drawn
        assert by_config.complete(PROMPT, max_tokens=10, seed=1, temperature=0).token_ids == greedy


def test_what_the_file_forbids_beyond_the_vocabulary_is_passed_over(tmp_path: Path) -> None:
    """A row of the head that is no token is never chosen anyway; a caller who names one is told."""
    suppressed = {"tokenizer.ggml.suppress_tokens": [300, 507]}
    path = copy_with_fewer_pieces(GEMMA / "model.gguf", tmp_path / "model.gguf", 505, suppressed)
    with SyncGemmaModel(path, **EXACT) as model:
        completion = model.complete(PROMPT, max_tokens=100, seed=1, temperature=5.0, top_k=0, stop_ids=())
        assert 300 not in completion.token_ids
        assert max(completion.token_ids) < 505
        assert model.chat([{"role": "user", "content": "Hi"}], max_tokens=1).finish_reason
        with pytest.raises(ConfigError, match="logit_bias has token 507, but this model's tokens are 0 to 504"):
            model.complete(PROMPT, logit_bias={507: 1.0})


def test_a_model_is_loaded_from_a_config_whose_fields_keywords_override() -> None:
    config = GenerationConfig(GEMMA, context=128, threads=2, max_tokens=3)
    with SyncGemmaModel(config, context=64) as model:
        assert (model.info.context, model.info.threads) == (64, 2)
        assert model.complete(PROMPT, stop_ids=()).usage.completion_tokens == 3


def test_logprobs_are_the_models_own_distribution(model: SyncGemmaModel) -> None:
    """At whatever temperature the token was drawn, and whatever pushed it."""
    completion = model.complete(PROMPT, max_tokens=6, seed=3, temperature=5.0, logit_bias={9: 5.0}, logprobs=4)
    ids = model.tokenizer.encode(PROMPT)
    rows = log_softmax(model.logits([*ids, *completion.token_ids]))[len(ids) - 1 :]
    assert completion.logprobs is not None
    assert len(completion.logprobs) == 6
    for row, token_id, found in zip(rows, completion.token_ids, completion.logprobs, strict=False):
        assert found.token_id == token_id
        assert found.logprob == pytest.approx(row[token_id], abs=1e-5)
        assert [each.token_id for each in found.top] == np.argsort(-row, kind="stable")[:4].tolist()
        assert [each.logprob for each in found.top] == pytest.approx(np.sort(row)[:-5:-1].tolist(), abs=1e-5)


def test_logprobs_are_those_of_tokens_that_the_tokenizer_has(tmp_path: Path) -> None:
    """Rows of the head past its pieces are no tokens: none is ranked, and none has a share in the sum."""
    with SyncGemmaModel(copy_with_fewer_pieces(GEMMA / "model.gguf", tmp_path / "model.gguf", 505), **EXACT) as model:
        ids = model.tokenizer.encode("Hello")
        completion = model.complete("Hello", max_tokens=20, seed=1, logprobs=600, stop_ids=())
        rows = log_softmax(model.logits([*ids, *completion.token_ids])[len(ids) - 1 : -1, :505])
    assert completion.logprobs is not None
    for row, found in zip(rows, completion.logprobs, strict=True):
        assert found.logprob == pytest.approx(row[found.token_id], abs=1e-5)
        assert sorted(each.token_id for each in found.top) == list(range(505))


@pytest.mark.parametrize("n_tokens", [1, 2, 64, 65, 66, 129, 200, CONTEXT])
def test_scores_are_the_log_softmax_of_the_logits(model: SyncGemmaModel, n_tokens: int) -> None:
    ids = [2, *(10 + 7 * i % 480 for i in range(n_tokens - 1))]
    scores = model.score(ids)
    expected = log_softmax(model.logits(ids))[np.arange(n_tokens - 1), ids[1:]]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_every_token_of_a_text_is_scored(model: SyncGemmaModel) -> None:
    """The first token is BOS, which nothing comes before."""
    assert model.score(PROMPT).shape == (model.count_tokens(PROMPT) - 1,)
    assert np.array_equal(model.score(PROMPT), model.score(model.tokenizer.encode(PROMPT)))
    assert model.score("").shape == (0,)


def test_a_text_is_counted_as_it_is_read(model: SyncGemmaModel) -> None:
    assert (
        model.count_tokens(PROMPT)
        == len(model.tokenizer.encode(PROMPT))
        == model.complete(PROMPT, max_tokens=1).usage.prompt_tokens
    )


def test_an_empty_prompt_is_continued_from_its_start(model: SyncGemmaModel) -> None:
    completion = model.complete("", max_tokens=5, seed=0)
    assert completion.usage.prompt_tokens == 1
    assert completion.token_ids == model.complete([2], max_tokens=5, seed=0).token_ids


def test_no_tokens_at_all_are_asked_for(model: SyncGemmaModel) -> None:
    completion = model.complete(PROMPT, max_tokens=0)
    assert (completion.text, completion.token_ids, completion.finish_reason) == ("", (), "length")
    assert completion.timings.prefill_tokens == 0
    assert list(model.generate_stream(PROMPT, max_tokens=0)) == []


def test_a_text_goes_on_until_the_context_is_full(model: SyncGemmaModel) -> None:
    completion = model.complete([2] * 200, seed=0, stop_ids=())
    assert completion.usage.completion_tokens == CONTEXT - 200
    assert completion.finish_reason == "length"


@pytest.mark.parametrize("n_tokens", [CONTEXT + 1, 10_000])
def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(model: SyncGemmaModel, n_tokens: int) -> None:
    calls: list[Callable[[list[int]], Any]] = [
        model.generate,
        model.complete,
        model.generate_stream,
        model.logits,
        model.score,
    ]
    for call in calls:
        with pytest.raises(ContextFullError, match=rf"\b{n_tokens}\b.*\b{CONTEXT}\b"):
            call([5] * n_tokens)


def test_a_text_that_is_too_long_to_be_scored_is_told_of_a_context_that_there_is() -> None:
    with SyncGemmaModel(GEMMA, threads=1, context=20) as model:
        with pytest.raises(ContextFullError, match=r"Score it in parts, or load the model with context=30"):
            model.score([5] * 30)
        with pytest.raises(ContextFullError, match=r"Score it in parts: this model holds at most 256"):
            model.score([5] * 257)


def test_a_prompt_that_fills_the_context_leaves_no_room_for_an_answer(model: SyncGemmaModel) -> None:
    with pytest.raises(ContextFullError, match=r"has 256 tokens, the context holds 256, which leaves no room"):
        model.generate([5] * CONTEXT)
    assert model.generate([5] * CONTEXT, max_tokens=0) == ""
    assert len(model.complete([5] * (CONTEXT - 1), stop_ids=()).token_ids) == 1


def test_more_tokens_than_fit_beside_the_prompt_are_refused(model: SyncGemmaModel) -> None:
    with pytest.raises(ContextFullError, match=r"200 tokens.*max_tokens=57.*257.*256.*at most 56"):
        model.generate([5] * 200, max_tokens=57)


def test_a_refused_prompt_is_not_computed(model: SyncGemmaModel) -> None:
    """What the KV cache held before it is still there."""
    model.complete([2, 7, 8, 9], max_tokens=1)
    with pytest.raises(ContextFullError):
        model.complete([5] * 300)
    assert model.complete([2, 7, 8, 9], max_tokens=1).usage.cached_tokens == 3


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": -1},
        {"max_tokens": 1.5},
        {"temperature": math.nan},
        {"temperature": -0.1},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": math.nan},
        {"min_p": 1.1},
        {"repetition_penalty": 0},
        {"logit_bias": {512: 1.0}},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {3: math.nan}},
        {"stop": ""},
        {"stop": 5},
        {"seed": -1},
        {"seed": 2**64},
        {"logprobs": -1},
        {"logprobs": True},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named(model: SyncGemmaModel, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        model.generate(PROMPT, **options)
    with pytest.raises(ConfigError, match=name):
        model.generate_stream(PROMPT, **options)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("max_new_tokens", "max_tokens"), ("temprature", "temperature"), ("n_ctx", "context"), ("threads", "loaded")],
)
def test_an_unknown_option_is_answered_with_a_known_one(model: SyncGemmaModel, name: str, advice: str) -> None:
    call: Callable[..., Any] = SyncGemmaModel if advice == "context" else model.generate
    with pytest.raises(ConfigError, match=rf"{name}.*{advice}"):
        call(GEMMA, **{name: 1})


@pytest.mark.parametrize(
    "options",
    [{"threads": 0}, {"threads": 257}, {"context": 0}, {"context": 257}, {"arithmetic": "int4"}, {"cache": "q8_0"}],
    ids=str,
)
def test_a_loading_option_out_of_range_is_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=rf"{name}.*{options[name]}"):
        SyncGemmaModel(GEMMA, **options)


@pytest.mark.parametrize("token_id", [-1, 512, 2**31, 2**32 + 5, 2**63, 2**70])
def test_a_token_id_out_of_range_is_refused(model: SyncGemmaModel, token_id: int) -> None:
    for call in (model.generate, model.logits, model.score):
        with pytest.raises(TokenizerError, match=r"oken id"):
            call([2, token_id])


NO_IDS: list[Any] = [[], None, 5, [2.0], [True], ["a"], [[2], [3]], [[2], [3, 4]], b"ab", {2: 3}, [None]]


@pytest.mark.parametrize("ids", NO_IDS, ids=str)
def test_what_is_no_list_of_token_ids_is_refused(model: SyncGemmaModel, ids: Any) -> None:
    for call in (model.generate, model.logits, model.score):
        with pytest.raises(TokenizerError, match=r"Token ids must be a sequence of at least one whole number"):
            call(ids)


def test_token_ids_may_be_numpys(model: SyncGemmaModel) -> None:
    ids = [2, 300, 17]
    for kind in (np.int64, np.int32, np.uint16):
        theirs: Any = np.array(ids, kind)
        assert np.array_equal(model.logits(theirs), model.logits(ids))
        assert np.array_equal(model.logits(list(theirs)), model.logits(ids))


LONE_SURROGATES = ["\ud800", "a\udfffb", "\udc80"]


@pytest.mark.parametrize("text", LONE_SURROGATES)
def test_a_lone_surrogate_is_refused(model: SyncGemmaModel, text: str) -> None:
    for call in (model.generate, model.count_tokens, model.score, model.tokenizer.encode):
        with pytest.raises(TokenizerError, match=r"lone surrogate, U\+D"):
            call(text)


@pytest.mark.parametrize("text", ["\0", "\ufffe", "\U0010ffff", "é" * 50, "😀" * 40, "\r\n\t ", "<bos><eos>"])
def test_any_other_text_is_continued(model: SyncGemmaModel, text: str) -> None:
    assert len(model.complete(text, max_tokens=3, stop_ids=()).token_ids) == 3


def test_a_model_without_a_tokenizer_runs_on_ids_and_says_so_when_text_comes(tmp_path: Path) -> None:
    folder = copy_folder(GEMMA, tmp_path / "model", leave_out=["tokenizer*"])
    file = copy_gguf(GEMMA / "model.gguf", tmp_path / "model.gguf", leave_out=["tokenizer."])
    for path in (folder, file):
        with SyncGemmaModel(path, **EXACT) as model, SyncGemmaModel(GEMMA, **EXACT) as whole:
            assert np.array_equal(model.logits([2, 5, 9]), whole.logits([2, 5, 9]))
            assert np.array_equal(model.score([2, 5, 9]), whole.score([2, 5, 9]))
            assert model.info.vocab_size == 512
            for call in (model.generate, model.score, model.count_tokens, model.tokenizer.encode):
                with pytest.raises(TokenizerError, match="token"):
                    call("text")


@pytest.fixture(params=["folder without", "file without", "another kind", "another model's"])
def mute(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyncGemmaModel]:
    """The tiny Gemma 3 without a tokenizer that is its own."""
    file, target = GEMMA / "model.gguf", tmp_path / "model.gguf"
    copies: dict[str, Callable[[], Path]] = {
        "folder without": lambda: copy_folder(GEMMA, tmp_path / "model", leave_out=["tokenizer*"]),
        "file without": lambda: copy_gguf(
            file, target, {"tokenizer.ggml.eos_token_id": 1}, leave_out=["tokenizer.ggml."]
        ),
        "another kind": lambda: copy_gguf(file, target, {"tokenizer.ggml.model": "gpt2"}),
        "another model's": lambda: copy_with_fewer_pieces(file, target, 400),
    }
    with SyncGemmaModel(copies[request.param](), **EXACT) as model:
        yield model


def test_a_model_without_a_tokenizer_takes_and_gives_ids(mute: SyncGemmaModel) -> None:
    """The very ids of the model with one, and as often as it is asked; there is no text to them."""
    options: dict[str, Any] = {"max_tokens": 20, "seed": 3, "stop_ids": ()}
    with SyncGemmaModel(GEMMA, **EXACT) as whole:
        expected = whole.complete([2, 300, 17], logprobs=2, **options)
    found, again = (mute.complete([2, 300, 17], logprobs=2, **options) for _ in range(2))
    assert (found.text, found.token_ids, found.finish_reason) == ("", expected.token_ids, "length")
    assert (again.token_ids, again.logprobs) == (found.token_ids, found.logprobs)
    assert found.logprobs is not None
    assert expected.logprobs is not None
    assert [one.logprob for one in found.logprobs] == [one.logprob for one in expected.logprobs]
    assert {one.text for each in found.logprobs for one in (each, *each.top)} == {""}
    with mute.generation([2, 300, 17], **options) as generation:
        assert [step.token_id for step in generation] == list(expected.token_ids)


def test_a_model_without_a_tokenizer_ends_where_its_files_say(mute: SyncGemmaModel) -> None:
    assert mute.stop_ids == {1}
    completion = mute.complete([2, 300], max_tokens=5, logit_bias={1: 1000.0})
    assert (completion.token_ids, completion.finish_reason) == ((), "stop")
    assert mute.complete([2, 300], max_tokens=5, logit_bias={9: 1000.0}, stop_ids={9}).finish_reason == "stop"


def test_a_model_without_a_tokenizer_says_so_where_text_is_asked_for(mute: SyncGemmaModel) -> None:
    """An empty text for token ids would be a loss in silence, and a stop string would never come."""
    calls: list[Callable[[], object]] = [
        lambda: mute.generate([2, 300], max_tokens=2),
        lambda: mute.generate_stream([2, 300], max_tokens=2),
    ]
    for call in calls:
        with pytest.raises(TokenizerError, match=r"no tokenizer .* complete\(\)"):
            call()
    with pytest.raises(TokenizerError, match=r"stop .* no tokenizer .* stop_ids"):
        mute.complete([2, 300], stop="x")
    for text_call in (mute.complete, mute.generate, mute.count_tokens):
        with pytest.raises((TokenizerError, UnsupportedModelError), match="tokenizer"):
            text_call("text")
    with pytest.raises((TokenizerError, UnsupportedModelError), match="tokenizer"):
        mute.chat([{"role": "user", "content": "Hi"}])


def test_damaged_weights_are_an_error_and_no_text(tmp_path: Path) -> None:
    damaged = {"output_norm.weight": np.full(40, np.nan, np.float32)}
    path = copy_gguf(GEMMA / "model.gguf", tmp_path / "model.gguf", tensors=damaged)
    with SyncGemmaModel(path, threads=1) as model:
        for temperature in (0.0, 1.0):
            with pytest.raises(ModelFormatError, match="not finite"):
                model.generate(PROMPT, temperature=temperature)
        with pytest.raises(ModelFormatError, match="not finite"):
            model.logits([2, 5, 9])


def test_leaving_a_stream_early_leaves_the_model_usable(model: SyncGemmaModel) -> None:
    expected = model.complete(PROMPT, max_tokens=20, seed=4).token_ids
    for n_pieces in (0, 1, 5):
        stream = model.generate_stream(PROMPT, max_tokens=100, seed=1)
        for _ in range(n_pieces):
            next(stream)
        del stream
        assert model.complete(PROMPT, max_tokens=20, seed=4).token_ids == expected


def test_streams_that_are_read_by_turns_do_not_disturb_each_other(model: SyncGemmaModel) -> None:
    prompts = ["Once", "upon a", "time"]
    alone = [model.generate(prompt, max_tokens=20, seed=1) for prompt in prompts]
    streams = [model.generate_stream(prompt, max_tokens=20, seed=1) for prompt in prompts]
    texts = ["", "", ""]
    for _ in range(20):
        texts = [text + next(stream, "") for text, stream in zip(texts, streams, strict=True)]
    assert texts == alone


def test_the_prompts_progress_is_reported(tmp_path: Path) -> None:
    long = copy_folder(GEMMA, tmp_path / "model", {"max_position_embeddings": 1024})
    calls: list[tuple[int, int]] = []
    with SyncGemmaModel(long, threads=1) as model:
        model.complete([2] * 600, max_tokens=1, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (600, 600)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert len(calls) > 1


def test_an_error_in_a_callback_comes_out_and_leaves_the_model_usable(model: SyncGemmaModel) -> None:
    def fail(_done: int, _total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.complete([2, 44, 45], max_tokens=1, on_progress=fail)
    assert isinstance(model.complete([2, 44, 45], max_tokens=1), Completion)


def test_a_closed_model_is_an_error_in_every_method() -> None:
    with SyncGemmaModel(GEMMA, threads=1) as model:
        tokenizer = model.tokenizer
        stream = model.generate_stream(PROMPT, stop=["never"])
        next(stream)
    messages = [{"role": "user", "content": "Hi"}]
    uses: list[Callable[[], Any]] = [
        lambda: model.generate(PROMPT),
        lambda: model.generate_stream(PROMPT),
        lambda: model.complete([2]),
        lambda: model.chat(messages),
        lambda: model.chat_stream(messages),
        lambda: model.logits([2]),
        lambda: model.score(PROMPT),
        lambda: model.count_tokens(PROMPT),
        lambda: model.tokenizer,
        lambda: model.stop_ids,
        lambda: model.info,
        lambda: next(stream),
    ]
    for use in uses:
        with pytest.raises(ModelClosedError, match=r"closed.*Load it again"):
            use()
    model.close()
    assert tokenizer.decode(tokenizer.encode(PROMPT)) == PROMPT


def test_a_tokenizer_first_used_after_its_model_was_closed_is_an_error() -> None:
    """The vocabulary is read when the first text comes in, and by then the file is unmapped."""
    with SyncGemmaModel(GEMMA / "model.gguf", threads=1) as model:
        tokenizer = model.tokenizer
    with pytest.raises(ModelClosedError, match="closed"):
        tokenizer.encode(PROMPT)
