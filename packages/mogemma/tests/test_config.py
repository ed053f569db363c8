"""Options: their ranges, their names, and who decides."""

from __future__ import annotations

import math
import pickle
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.config import (
    CHAT_OPTIONS,
    GEMMA,
    ChatOptions,
    EmbeddingConfig,
    GenerationConfig,
    Sampling,
    SamplingConfig,
    SamplingOptions,
    file_sampling,
    read_config,
    resolve_sampling,
)
from mogemma.errors import ConfigError, ModelFormatError, MogemmaError

NOTHING = SamplingConfig()

BAD = [
    ("max_tokens", -1),
    ("max_tokens", 1.5),
    ("max_tokens", True),
    ("max_tokens", "8"),
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", 10**400),
    ("temperature", "hot"),
    ("temperature", False),
    ("temperature", 1j),
    ("top_k", -1),
    ("top_k", 64.0),
    ("top_p", 0),
    ("top_p", 1.01),
    ("top_p", math.nan),
    ("min_p", -0.01),
    ("min_p", 1.5),
    ("repetition_penalty", 0),
    ("repetition_penalty", -1.0),
    ("repetition_penalty", math.inf),
    ("frequency_penalty", 2.1),
    ("presence_penalty", -2.1),
    ("logit_bias", [1, 2]),
    ("logit_bias", {-1: 1.0}),
    ("logit_bias", {"5": 1.0}),
    ("logit_bias", {True: 1.0}),
    ("logit_bias", {5: math.nan}),
    ("logit_bias", {5: math.inf}),
    ("logit_bias", {5: 1e9}),
    ("stop", ""),
    ("stop", ["a", ""]),
    ("stop", [1]),
    ("stop", 1),
    ("stop", b"a"),
    ("seed", -1),
    ("seed", 2**64),
    ("seed", 0.5),
    pytest.param("seed", 10**5000, id="seed-of-5001-digits"),
    ("logprobs", -1),
    ("logprobs", True),
    ("logprobs", 1001),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_out_of_range_is_an_error_that_names_option_value_and_range(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*(is|has) .*; it must be ") as caught:
        SamplingConfig(**{name: value})
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("name", "given_value", "kept"),
    [
        ("max_tokens", 0, 0),
        ("max_tokens", np.int64(7), 7),
        ("temperature", 0, 0.0),
        ("temperature", np.float32(0.5), 0.5),
        ("temperature", Fraction(1, 4), 0.25),
        ("top_k", np.uint8(3), 3),
        ("top_p", 1, 1.0),
        ("min_p", 1, 1.0),
        ("stop", "\n", ("\n",)),
        ("stop", ["a", "b"], ("a", "b")),
        ("stop", [], ()),
        ("seed", 2**64 - 1, 2**64 - 1),
        ("logit_bias", {np.int32(5): -np.inf, 6: 3}, {5: -math.inf, 6: 3.0}),
        ("logprobs", 0, 0),
    ],
)
def test_a_value_in_range_is_kept_as_a_plain_one(name: str, given_value: Any, kept: object) -> None:
    """numpy numbers become Python's: a config can be printed, pickled and written as JSON."""
    value = getattr(SamplingConfig(**{name: given_value}), name)
    assert value == kept
    assert type(value) is type(kept)


@given(
    st.sampled_from([each.name for each in fields(SamplingConfig)]), st.one_of(st.floats(), st.integers(), st.text())
)
def test_any_value_is_taken_or_refused_with_a_config_error(name: str, value: Any) -> None:
    """Never another exception, and nothing that is not a finite number gets past."""
    try:
        config = SamplingConfig(**{name: value})
    except ConfigError:
        return
    kept = getattr(config, name)
    assert isinstance(kept, (int, float, tuple))
    assert not isinstance(kept, float) or math.isfinite(kept)


def test_the_three_lists_of_sampling_options_are_one() -> None:
    """What a caller writes, what a config holds and what a generation uses cannot drift apart."""
    names = [each.name for each in fields(SamplingConfig)]
    assert [each.name for each in fields(Sampling)] == names
    assert set(SamplingOptions.__annotations__) == {*names, "repeat_penalty"}
    assert set(names) < {each.name for each in fields(GenerationConfig)}


@pytest.mark.parametrize("kind", [SamplingConfig, GenerationConfig, EmbeddingConfig])
def test_the_types_of_a_config_can_be_asked_for(kind: type) -> None:
    """Tools that build forms and command lines from dataclasses do so."""
    assert get_type_hints(kind).keys() == {each.name for each in fields(kind)}


def test_a_config_can_be_hashed_compared_and_sent_to_another_process() -> None:
    config = GenerationConfig("a.gguf", context=64, logit_bias={5: -1.0}, stop="x")
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(GenerationConfig("a.gguf", context=64, logit_bias={5: -1.0}, stop=["x"]))


class TestModel:
    def test_none_is_unset(self) -> None:
        """The model is then chosen where it is loaded."""
        assert GenerationConfig().model is None
        assert EmbeddingConfig(dimensions=8).model is None

    @pytest.mark.parametrize("model", ["", "  ", 5, b"a.gguf", ["a.gguf"]])
    def test_a_model_that_is_no_name_is_refused(self, model: Any) -> None:
        with pytest.raises(ConfigError, match=r"model is .*; it must be the path"):
            GenerationConfig(model)

    def test_a_path_stays_a_path_and_a_name_a_name(self) -> None:
        assert GenerationConfig(Path("a.gguf")).model == Path("a.gguf")
        assert EmbeddingConfig("org/name").model == "org/name"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("context", 0),
            ("threads", 0),
            ("threads", 257),
            ("arithmetic", "int4"),
            ("arithmetic", None),
            ("cache", "q8"),
            ("cache", ["f16"]),
        ],
    )
    def test_a_loading_option_out_of_range_is_an_error(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=rf"{name} is .*; it must be "):
            GenerationConfig("a.gguf", **{name: value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [("dimensions", 0), ("normalize", 1), ("batch_tokens", 0), ("batch_tokens", None), ("prompt", "")],
    )
    def test_an_embedding_option_out_of_range_is_an_error(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=rf"{name} is .*; it must be "):
            EmbeddingConfig("a", **{name: value})


class TestReadConfig:
    def test_keywords_override_the_config_which_overrides_the_environment(self) -> None:
        environment = {"MOGEMMA_THREADS": "2", "MOGEMMA_CONTEXT": "1024"}
        config = read_config(GenerationConfig, "a.gguf", {"threads": 3}, environment)
        assert (config.model, config.threads, config.context) == ("a.gguf", 3, 1024)
        config = read_config(GenerationConfig, GenerationConfig("b", context=64), {"temperature": 0}, environment)
        assert (config.model, config.threads, config.context, config.temperature) == ("b", 2, 64, 0.0)

    def test_none_as_a_keyword_is_unset(self) -> None:
        config = read_config(
            GenerationConfig, GenerationConfig("a", context=64), {"context": None, "arithmetic": None}, {}
        )
        assert (config.context, config.arithmetic) == (64, "int8")

    @pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "9" * 30])
    def test_an_environment_variable_out_of_range_is_named(self, value: str) -> None:
        with pytest.raises(ConfigError, match=r"MOGEMMA_THREADS is .*; it must be a whole number from 1 to 256"):
            read_config(EmbeddingConfig, "a", {}, {"MOGEMMA_THREADS": value})

    def test_an_empty_environment_variable_is_unset(self) -> None:
        assert read_config(EmbeddingConfig, "a", {}, {"MOGEMMA_THREADS": " "}).threads is None

    def test_the_context_of_the_environment_is_for_models_that_generate(self) -> None:
        assert read_config(EmbeddingConfig, "a", {}, {"MOGEMMA_CONTEXT": "many"}).threads is None

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("temprature", "temperature"),
            ("TopK", "top_k"),
            ("max_new_tokens", "max_tokens"),
            ("n_ctx", "context"),
            ("model_path", "model"),
            ("num_threads", "threads"),
        ],
    )
    def test_an_unknown_option_is_an_error_with_the_nearest_name(self, name: str, meant: str) -> None:
        with pytest.raises(ConfigError, match=rf"no option '{name}' here\. Did you mean {meant}\?"):
            read_config(GenerationConfig, "a.gguf", {name: 1}, {})

    def test_an_option_like_none_is_answered_with_the_list(self) -> None:
        with pytest.raises(ConfigError, match="The options are model, dimensions, "):
            read_config(EmbeddingConfig, "a", {"zzz": 1}, {})

    def test_a_sampling_option_for_an_embedding_model_is_explained(self) -> None:
        with pytest.raises(ConfigError, match="It is for models that generate text"):
            read_config(EmbeddingConfig, "a", {"temperature": 1}, {})

    def test_a_config_of_the_other_kind_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="a GenerationConfig, not a EmbeddingConfig"):
            read_config(GenerationConfig, EmbeddingConfig("a"), {}, {})


class TestResolveSampling:
    def test_unset_everywhere_gives_what_gemma_recommends(self) -> None:
        sampling = resolve_sampling({}, NOTHING, NOTHING)
        assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (1.0, 64, 0.95, 0.0)
        assert (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty) == (1.0, 0.0, 0.0)
        assert (sampling.max_tokens, sampling.logprobs) == (None, None)
        assert (sampling.stop, dict(sampling.logit_bias)) == ((), {})

    def test_keywords_override_the_config_which_overrides_the_file(self) -> None:
        in_file = SamplingConfig(temperature=0.1, top_k=1, top_p=0.1)
        config = GenerationConfig("a", temperature=0.2, top_k=2)
        sampling = resolve_sampling({"temperature": 0.3, "top_k": None}, config, in_file)
        assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.3, 2, 0.1, 0.0)

    @pytest.mark.parametrize("name", ["temperature", "top_k", "min_p", "max_tokens", "seed", "logprobs"])
    def test_zero_is_a_value_and_overrides(self, name: str) -> None:
        """Not mistaken for unset."""
        one: dict[str, Any] = {name: 1}
        assert getattr(resolve_sampling({name: 0}, SamplingConfig(**one), NOTHING), name) == 0

    def test_an_empty_stop_list_switches_the_configs_off(self) -> None:
        assert resolve_sampling({"stop": []}, SamplingConfig(stop="\n"), NOTHING).stop == ()

    def test_repeat_penalty_is_another_name_of_repetition_penalty(self) -> None:
        assert resolve_sampling({"repeat_penalty": 1.3}, NOTHING, NOTHING).repetition_penalty == 1.3
        with pytest.raises(ConfigError, match="one of them, not both"):
            resolve_sampling({"repeat_penalty": 1.3, "repetition_penalty": 1.2}, NOTHING, NOTHING)

    @pytest.mark.parametrize("name", ["context", "threads", "model", "arithmetic", "cache"])
    def test_a_loading_option_in_a_call_is_explained(self, name: str) -> None:
        with pytest.raises(ConfigError, match="chosen when the model is loaded"):
            resolve_sampling({name: 1}, NOTHING, NOTHING)

    @pytest.mark.parametrize("name", CHAT_OPTIONS)
    def test_an_option_of_conversations_elsewhere_is_explained(self, name: str) -> None:
        with pytest.raises(ConfigError, match="It is for conversations"):
            resolve_sampling({name: True}, NOTHING, NOTHING)

    def test_what_the_file_suppresses_is_joined_with_what_the_caller_biases(self) -> None:
        in_file = SamplingConfig(logit_bias={5: -math.inf, 6: -math.inf})
        config = GenerationConfig("a", logit_bias={6: 1.0, 7: 2.0})
        assert resolve_sampling({}, config, in_file).logit_bias == {5: -math.inf, 6: 1.0, 7: 2.0}
        assert resolve_sampling({"logit_bias": {5: 3.0}}, config, in_file).logit_bias == {5: 3.0, 6: -math.inf}

    def test_without_a_seed_each_generation_has_another(self) -> None:
        seeds = {resolve_sampling({}, NOTHING, NOTHING).seed for _ in range(20)}
        assert len(seeds) == 20
        assert resolve_sampling({"seed": 7}, NOTHING, NOTHING).seed == 7

    def test_gemmas_defaults_lie_in_their_own_ranges(self) -> None:
        unset = [each.name for each in fields(GEMMA) if getattr(GEMMA, each.name) is None]
        assert unset == ["max_tokens", "seed", "logprobs"]


class TestFileSampling:
    def test_gguf_metadata_gives_its_defaults_as_they_were_written(self) -> None:
        """A GGUF file keeps 32 bits of 0.95; a user expects to read 0.95."""
        metadata = {
            "general.sampling.temp": float(np.float32(0.7)),
            "general.sampling.top_k": 40,
            "general.sampling.top_p": float(np.float32(0.95)),
            "general.sampling.min_p": float(np.float32(0.05)),
            "general.sampling.penalty_repeat": 1.0,
            "general.name": "x",
        }
        assert file_sampling(metadata) == SamplingConfig(
            temperature=0.7, top_k=40, top_p=0.95, min_p=0.05, repetition_penalty=1.0
        )

    def test_generation_config_json_gives_its_defaults(self) -> None:
        config = {"do_sample": True, "top_k": 64, "top_p": 0.95, "eos_token_id": [1, 106], "max_length": 20}
        assert file_sampling(config) == SamplingConfig(top_k=64, top_p=0.95)

    def test_a_generation_config_that_does_not_sample_is_greedy(self) -> None:
        assert file_sampling({"do_sample": False, "temperature": 0.7}).temperature == 0

    def test_a_file_without_defaults_sets_nothing(self) -> None:
        assert file_sampling({}) == NOTHING

    @pytest.mark.parametrize("key", ["suppress_tokens", "tokenizer.ggml.suppress_tokens"])
    def test_suppressed_tokens_are_forbidden(self, key: str) -> None:
        """Those that the model does not have are passed over: derived models may have lost some."""
        for listed in ([5, 9], np.array([5, 9], np.int32)):
            assert file_sampling({key: listed}) == SamplingConfig(logit_bias={5: -math.inf, 9: -math.inf})
            assert file_sampling({key: listed}, vocab_size=9) == SamplingConfig(logit_bias={5: -math.inf})
        for damaged in (7, "x", [-1], [1.5], [True]):
            with pytest.raises(ModelFormatError, match="no list of token ids"):
                file_sampling({key: damaged})

    @pytest.mark.parametrize(
        ("key", "value"),
        [("general.sampling.temp", math.nan), ("general.sampling.top_k", -5), ("top_p", 7), ("temperature", "warm")],
    )
    def test_a_default_out_of_range_is_an_error_that_names_the_key(self, key: str, value: object) -> None:
        with pytest.raises(ModelFormatError, match=f"'{key}' cannot be used") as caught:
            file_sampling({key: value})
        assert isinstance(caught.value, MogemmaError)


def test_the_options_of_conversations_are_those_of_generation_and_a_few() -> None:
    assert set(get_type_hints(ChatOptions)) == {*get_type_hints(SamplingOptions), *CHAT_OPTIONS}
