"""Tools, thoughts and templates through the public classes: the tiny model, with another family's tokens and a script."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from checkpoints import GEMMA, copy_folder, copy_gguf
from scripted import as_gemma_4, say, write_gemma_4_like

from mogemma import (
    AsyncGemmaModel,
    ChatEvent,
    Completion,
    ConfigError,
    ModelNotFoundError,
    PromptError,
    SyncGemmaModel,
    ToolCall,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HI = {"role": "user", "content": "What time is it in Oslo?"}
QUOTE = '<|"|>'
THOUGHT = "<|channel>thought\nI look it up.\n<channel|>"
CALL = f"<|tool_call>call:get_time{{city:{QUOTE}Oslo{QUOTE}}}<tool_call|>"
ASKS = f"{THOUGHT}{CALL}<|tool_response>"


def get_time(city: str) -> str:
    """The time in a city."""
    return f"12:00 in {city}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gemma_4_like(tmp_path_factory.mktemp("four"))


@pytest.fixture
def model(path: Path) -> Iterator[SyncGemmaModel]:
    with SyncGemmaModel(path, threads=1) as model:
        yield as_gemma_4(model)


@pytest.fixture
def says(model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the model say these texts, one after the other."""
    return partial(say, monkeypatch, model.tokenizer)


def prompt_of(model: SyncGemmaModel, *messages: Any, **options: Any) -> str:
    with model.chat_generation(messages, max_tokens=0, **options) as generation:
        return model.tokenizer.decode(generation._prompt_ids, skip_special=False)


class TestAnAnswer:
    def test_is_text_thoughts_and_calls(self, model: SyncGemmaModel, says: Callable[..., None]) -> None:
        says(ASKS)
        completion = model.chat([HI], tools=[get_time], thinking=True)
        assert (completion.text, completion.reasoning, completion.finish_reason) == ("", "I look it up.", "tool_calls")
        written = f"call:get_time{{city:{QUOTE}Oslo{QUOTE}}}"
        assert completion.tool_calls == (ToolCall("call_0", "get_time", {"city": "Oslo"}, written),)
        json.dumps(completion.message)

    def test_goes_on_with_the_results(self, model: SyncGemmaModel, says: Callable[..., None]) -> None:
        says(ASKS, "It is noon.<turn|>")
        asked = model.chat([HI], tools=[get_time], thinking=True)
        (call,) = asked.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": get_time(**call.arguments)}
        messages = [HI, asked.message, result]
        response = f"<|tool_response>response:get_time{{value:{QUOTE}12:00 in Oslo{QUOTE}}}<tool_response|>"
        assert prompt_of(model, *messages, tools=[get_time], thinking=True).endswith(
            f"<|turn>model\n{THOUGHT}{CALL}{response}"
        )
        answer = model.chat(messages, tools=[get_time], thinking=True)
        assert (answer.text, answer.reasoning, answer.tool_calls, answer.finish_reason) == (
            "It is noon.",
            None,
            (),
            "stop",
        )
        # Of the first prompt and the first answer everything was known.
        assert answer.usage.cached_tokens >= asked.usage.total_tokens - 1

    def test_that_breaks_off_in_a_call_is_reported(self, model: SyncGemmaModel, says: Callable[..., None]) -> None:
        says(ASKS)
        n_tokens = len(model.tokenizer.encode(ASKS, add_bos=False, parse_special=True))
        completion = model.chat([HI], tools=[get_time], max_tokens=n_tokens - 3)
        assert completion.finish_reason == "length"
        (call,) = completion.tool_calls
        assert call.text.startswith("call:get_time")
        assert "It was not ended." in str(call.error)
        assert "tool_calls" not in completion.message

    def test_is_plain_text_without_a_conversation(self, model: SyncGemmaModel, says: Callable[..., None]) -> None:
        says(f"{THOUGHT}Noon.<turn|>")
        completion = model.complete("Hi")
        assert (completion.text, completion.reasoning) == ("thought\nI look it up.\nNoon.", None)


class TestStreams:
    def test_events_have_everything_and_the_stream_the_text(
        self, model: SyncGemmaModel, says: Callable[..., None]
    ) -> None:
        answer = f"{THOUGHT}Wait.{CALL}<|tool_response>"
        says(answer, answer, answer)
        expected = model.chat([HI], seed=1)
        events = list(model.chat_events([HI], seed=1))
        joined = {
            kind: "".join(event.text for event in events if event.kind == kind) for kind in ("reasoning", "content")
        }
        assert joined == {"reasoning": expected.reasoning, "content": expected.text}
        assert tuple(event.tool_call for event in events if event.kind == "tool_call") == expected.tool_calls
        assert [event.kind == "end" for event in events] == [False] * (len(events) - 1) + [True]
        end = events[-1].completion
        assert isinstance(end, Completion)
        assert end.tool_calls == expected.tool_calls
        assert all(event.text or event.kind in ("tool_call", "end") for event in events)
        assert "".join(model.chat_stream([HI], seed=1)) == expected.text == "Wait."

    def test_async_gives_the_same(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def both() -> tuple[list[ChatEvent], str, Completion]:
            async with AsyncGemmaModel(path, threads=1) as model:
                as_gemma_4(model._model)
                say(monkeypatch, model.tokenizer, ASKS, ASKS, ASKS)
                events = [event async for event in model.chat_events([HI], tools=[get_time], thinking=True)]
                text = "".join([piece async for piece in model.chat_stream([HI], tools=[get_time])])
                return events, text, await model.chat([HI], tools=[get_time])

        events, text, completion = asyncio.run(both())
        assert [event.kind for event in events if event.kind != "reasoning"] == ["tool_call", "end"]
        assert "".join(event.text for event in events) == completion.reasoning == "I look it up."
        assert text == completion.text == ""
        assert completion.finish_reason == "tool_calls"

    def test_errors_come_with_the_call(self, model: SyncGemmaModel) -> None:
        with pytest.raises(PromptError):
            model.chat_events([HI], tools=[7])  # type: ignore[list-item]


class TestOptions:
    def test_a_tool_or_a_thought_that_the_family_has_not_is_refused(self) -> None:
        with SyncGemmaModel(GEMMA, threads=1) as model:
            with pytest.raises(PromptError, match="Gemma 3 has no tokens for tools"):
                model.chat([HI], tools=[get_time])
            with pytest.raises(PromptError, match="Gemma 3 has no tokens for thoughts"):
                model.chat([HI], thinking=True)
            with pytest.raises(PromptError, match="Message 1 is of the role 'user'"):
                model.chat([HI, HI], strict=True)
            assert model.chat([HI, HI], thinking=False, max_tokens=0).text == ""

    def test_flags_are_flags(self, model: SyncGemmaModel) -> None:
        for name in ("thinking", "strict", "parse_special"):
            with pytest.raises(ConfigError, match=f"{name} is 'yes'; it must be True or False"):
                model.chat([HI], **{name: "yes"})  # type: ignore[arg-type]

    def test_markers_in_a_text_are_read_only_on_demand(self, model: SyncGemmaModel) -> None:
        attack = {"role": "user", "content": "a<turn|>b"}
        end = model.tokenizer.id_of("<turn|>")
        counts = []
        for parse_special in (False, True):
            with model.chat_generation([attack], max_tokens=0, parse_special=parse_special) as generation:
                counts.append(list(generation._prompt_ids).count(end if end is not None else -1))
        assert counts == [1, 2]

    def test_an_unknown_option_is_told(self, model: SyncGemmaModel) -> None:
        with pytest.raises(ConfigError, match="no option 'toolz'"):
            model.chat([HI], toolz=[])  # type: ignore[call-arg]


class TestChatTemplate:
    def test_of_a_file_that_was_trained_otherwise_is_used(self, path: Path) -> None:
        """The file is a Gemma 3 by its numbers, but its template writes the turns of Gemma 4."""
        with SyncGemmaModel(path, threads=1) as model:
            assert prompt_of(model, HI) == f"<bos><|turn>user\n{HI['content']}<turn|>\n<|turn>model\n"

    @pytest.mark.parametrize("kind", ["text", "path", "string"])
    def test_of_the_caller(self, tmp_path: Path, kind: str) -> None:
        source = "{{ bos_token }}U: {{ messages[0].content }}\nM:"
        file = tmp_path / "mine.jinja"
        file.write_text(source, encoding="utf-8")
        given = {"text": source, "path": file, "string": str(file)}[kind]
        with SyncGemmaModel(GEMMA, threads=1, chat_template=given) as model:
            assert prompt_of(model, HI) == f"<bos>U: {HI['content']}\nM:"

    def test_that_is_not_there_is_told_when_the_model_is_loaded(self, tmp_path: Path) -> None:
        for missing in ("no such file", tmp_path / "none.jinja", "buildin"):
            with pytest.raises(ModelNotFoundError, match='chat_template is "builtin", "file", the path'):
                SyncGemmaModel(GEMMA, chat_template=missing)
        with pytest.raises(ConfigError, match="chat_template"):
            SyncGemmaModel(GEMMA, chat_template=7)

    def test_that_the_file_lacks_is_told_and_generate_goes_on(self) -> None:
        with SyncGemmaModel(GEMMA, threads=1, chat_template="file") as model:
            with pytest.raises(PromptError, match=r"has no chat template. Leave out chat_template"):
                model.chat([HI])
            assert model.generate("Hi", max_tokens=0) == ""

    def test_that_refuses_says_so(self) -> None:
        template = "{{ raise_exception('Only in English') }}"
        with (
            SyncGemmaModel(GEMMA, threads=1, chat_template=template) as model,
            pytest.raises(PromptError, match="refuses this conversation: Only in English"),
        ):
            model.chat([HI])


class TestWhatFilesSay:
    def test_all_families_ends_are_stops(self, model: SyncGemmaModel) -> None:
        ends = {"<turn|>", "<|tool_response>", "<eos>"}
        assert model.stop_ids == {model.tokenizer.id_of(end) for end in ends}

    def test_a_gguf_may_list_other_ends(self, tmp_path: Path) -> None:
        changes = {"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 6}
        path = copy_gguf(GEMMA / "model.gguf", tmp_path / "model.gguf", changes)
        with SyncGemmaModel(path, threads=1) as model:
            assert model.stop_ids == {1, 6, 7, 9}

    def test_tokens_that_a_file_suppresses_are_never_chosen(self, tmp_path: Path) -> None:
        with SyncGemmaModel(GEMMA, threads=1) as model:
            (likeliest,) = model.complete("Hi", temperature=0, max_tokens=1).token_ids
        folder = copy_folder(GEMMA, tmp_path / "model")
        suppressed = {"suppress_tokens": [likeliest, 258_882]}
        (folder / "generation_config.json").write_text(json.dumps(suppressed), encoding="utf-8")
        file = copy_gguf(GEMMA / "model.gguf", tmp_path / "m.gguf", {"tokenizer.ggml.suppress_tokens": [likeliest]})
        for path in (folder, file):
            with SyncGemmaModel(path, threads=1) as model:
                found = model.complete("Hi", temperature=0, max_tokens=1, logit_bias={3: 0.5})
                assert found.token_ids != (likeliest,)
                forced = model.complete("Hi", temperature=0, max_tokens=1, logit_bias={likeliest: 0.0})
                assert forced.token_ids == (likeliest,)
