"""`mogemma generate` writes what the library generates, and nothing else on standard output."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checkpoints import GEMMA
from commandline import GREEDY, PROMPT, SCHEMA, WRITER, document, run

from mogemma import SyncGemmaModel


@pytest.fixture(scope="module")
def model() -> Iterator[SyncGemmaModel]:
    with SyncGemmaModel(GEMMA) as model:
        yield model


def test_it_writes_the_text_and_tells_beside_it_how_fast_it_came(model: SyncGemmaModel) -> None:
    result = run("generate", *GREEDY, "--max-tokens", "12", PROMPT)
    assert result.exit_code == 0
    assert result.stdout == model.generate(PROMPT, temperature=0, max_tokens=12) + "\n"
    assert result.stderr.count("\n") == 1
    for told in ("12 tokens", "prefill", "decode", "tokens/s", "first token after"):
        assert told in result.stderr


@pytest.mark.parametrize("arguments", [["-"], []])
@pytest.mark.parametrize("newline", ["", "\n", "\r\n"])
def test_a_piped_prompt_is_the_same_prompt(arguments: list[str], newline: str) -> None:
    """`echo` ends it with a newline, which would lead the model elsewhere."""
    piped = run("generate", *GREEDY, "--max-tokens", "8", *arguments, stdin=PROMPT + newline)
    assert piped.stdout == run("generate", *GREEDY, "--max-tokens", "8", PROMPT).stdout


def test_only_one_newline_at_the_end_is_not_of_the_prompt(model: SyncGemmaModel) -> None:
    result = document(run("generate", *GREEDY, "--max-tokens", "1", "--json", stdin="a\n\n"))
    assert result["usage"]["prompt_tokens"] == model.count_tokens("a\n")


def test_echo_writes_the_prompt_first(model: SyncGemmaModel) -> None:
    result = run("generate", *GREEDY, "--max-tokens", "8", "--echo", PROMPT)
    assert result.stdout == PROMPT + model.generate(PROMPT, temperature=0, max_tokens=8) + "\n"


def test_json_is_one_document_with_all_that_the_library_knows(model: SyncGemmaModel) -> None:
    result = run("generate", *GREEDY, "--max-tokens", "6", "--json", "--logprobs", "2", "--seed", "5", PROMPT)
    found = document(result)
    expected = model.complete(PROMPT, temperature=0, max_tokens=6, logprobs=2, seed=5)
    assert result.stderr == ""
    assert set(found) == set(SCHEMA)
    assert all(isinstance(found[name], kind) for name, kind in SCHEMA.items())
    assert found["text"] == expected.text
    assert found["token_ids"] == list(expected.token_ids)
    assert (found["finish_reason"], found["seed"]) == ("length", 5)
    assert found["usage"] == {"prompt_tokens": 17, "completion_tokens": 6, "cached_tokens": 0, "total_tokens": 23}
    assert (found["timings"]["prefill_tokens"], found["timings"]["decode_tokens"]) == (17, 5)
    assert found["timings"]["decode_tokens_per_second"] > 0
    assert [len(each["top"]) for each in found["logprobs"]] == [2] * 6
    assert found["logprobs"][0]["token_id"] == found["token_ids"][0]
    assert (found["model"]["family"], found["model"]["path"]) == ("gemma3", WRITER)


@pytest.mark.parametrize("arguments", [["--max-tokens", "0"], ["--max-tokens", "0", "--json"]])
def test_no_tokens_are_no_text(arguments: list[str]) -> None:
    result = run("generate", *GREEDY, *arguments, PROMPT)
    assert result.exit_code == 0
    assert result.stdout.strip() == "" or document(result)["text"] == ""


def test_the_options_of_sampling_are_those_of_the_library(model: SyncGemmaModel) -> None:
    options = ["--temperature", "0.8", "--top-k", "50", "--top-p", "0.9", "--min-p", "0.01", "--seed", "3"]
    options += ["--repetition-penalty", "1.2", "--frequency-penalty", "0.1", "--presence-penalty", "0.2"]
    result = run("generate", "-m", WRITER, "--max-tokens", "20", *options, PROMPT)
    expected = model.generate(
        PROMPT,
        max_tokens=20,
        temperature=0.8,
        top_k=50,
        top_p=0.9,
        min_p=0.01,
        seed=3,
        repetition_penalty=1.2,
        frequency_penalty=0.1,
        presence_penalty=0.2,
    )
    assert result.stdout == expected + "\n"


@pytest.mark.parametrize("given", [{"MOGEMMA_STOP": "no such text\nget get"}, {}])
def test_it_ends_before_a_stop_text(given: dict[str, str], model: SyncGemmaModel) -> None:
    """There may be several, with spaces in them; in the variable one a line."""
    options = [] if given else ["--stop", "no such text", "--stop", "get get"]
    found = document(run("generate", *GREEDY, "--max-tokens", "20", "--json", *options, PROMPT, **given))
    assert found["stopped_by"] == "get get"
    assert found["finish_reason"] == "stop"
    assert model.generate(PROMPT, temperature=0, max_tokens=20).startswith(found["text"] + "get get")


def test_the_options_of_loading_reach_the_model() -> None:
    options = ["--context", "64", "--threads", "1", "--arithmetic", "float32", "--cache", "f32"]
    info = document(run("generate", *GREEDY, "--max-tokens", "1", "--json", *options, PROMPT))["model"]
    found = (info["context"], info["threads"], info["arithmetic"], info["cache_format"])
    assert found == (64, 1, "float32", "f32")


def test_log_probabilities_have_their_place_in_json_only() -> None:
    result = run("generate", *GREEDY, "--logprobs", "1", PROMPT)
    assert result.exit_code == 2
    assert "--json" in result.stderr
