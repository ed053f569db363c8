"""`mogemma chat`: one message and its answer, or a conversation at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import GEMMA
from commandline import GREEDY, SCHEMA, document, endless_model, run, start

from mogemma import SyncGemmaModel
from mogemma.commands.chat import Conversation, converse
from mogemma.sampling import Sampler
from mogemma.templates import AnswerFormat
from mogemma.templates.start_of_turn import GEMMA_3


@pytest.fixture(scope="module")
def model() -> Iterator[SyncGemmaModel]:
    with SyncGemmaModel(GEMMA) as model:
        yield model


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_one_message_gets_one_answer(model: SyncGemmaModel) -> None:
    expected = model.chat([user("Hello there")], temperature=0, max_tokens=8).text + "\n"
    assert run("chat", *GREEDY, "--max-tokens", "8", "Hello there").stdout == expected
    assert run("chat", *GREEDY, "--max-tokens", "8", stdin="Hello there\n").stdout == expected


def test_several_piped_lines_are_one_message(model: SyncGemmaModel) -> None:
    found = document(run("chat", *GREEDY, "--max-tokens", "1", "--json", stdin="Hello\nthere\n"))
    expected = model.chat([user("Hello\nthere")], temperature=0, max_tokens=1)
    assert found["usage"]["prompt_tokens"] == expected.usage.prompt_tokens


def test_json_has_the_same_fields_as_that_of_generate() -> None:
    result = run("chat", *GREEDY, "--max-tokens", "4", "--json", "Hello")
    assert set(document(result)) == set(SCHEMA)
    assert result.stderr == ""


def test_the_system_text_comes_before_the_message(model: SyncGemmaModel) -> None:
    found = document(run("chat", *GREEDY, "--max-tokens", "4", "--json", "--system", "Be brief.", "Hello"))
    expected = model.chat([{"role": "system", "content": "Be brief."}, user("Hello")], temperature=0, max_tokens=4)
    assert found["text"] == expected.text
    assert found["usage"]["prompt_tokens"] == expected.usage.prompt_tokens


class Typist:
    """Types lines where input() asks for them, then Ctrl-D."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
        self._lines = iter(lines)
        monkeypatch.setattr("builtins.input", self)

    def __call__(self, prompt: str = "") -> str:
        line = next(self._lines, EOFError)
        if not isinstance(line, str):
            raise line
        return line


def roles(conversation: Conversation) -> list[str]:
    return [message["role"] for message in conversation.messages]


def talk(model: SyncGemmaModel, **sampling: Any) -> Conversation:
    conversation = Conversation(model, "Be brief.", {"temperature": 0, "max_tokens": 6, **sampling})
    converse(conversation)
    return conversation


def test_a_conversation_goes_on_and_its_beginning_is_in_the_cache(
    model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Typist(monkeypatch, "Hello", "", "And now?")
    conversation = talk(model)
    assert roles(conversation) == ["system", "user", "assistant", "user", "assistant"]
    output, error = capsys.readouterr()
    assert output == "".join(f"{message['content']}\n" for message in conversation.messages[2::2]) + "\n"
    assert re.search(r"\((\d+) more were known\)", error)


def test_clear_forgets_everything_but_the_system_text(model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    Typist(monkeypatch, "Hello", "/clear", "And now?", "/clear")
    assert roles(talk(model)) == ["system"]


def test_exit_help_and_what_is_no_command(
    model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Typist(monkeypatch, "/help", "/nonsense", "/exit", "never read")
    assert roles(talk(model)) == ["system"]
    output, error = capsys.readouterr()
    assert output == ""
    assert "/clear" in error
    assert "no command /nonsense" in error
    assert "never read" not in error


def test_a_message_that_goes_wrong_does_not_end_the_conversation(
    model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Typist(monkeypatch, "word " * 300, "a\udcff", KeyboardInterrupt, "Hello")
    assert roles(talk(model)) == ["system", "user", "assistant"]
    error = capsys.readouterr().err
    assert "the context holds 256" in error
    assert "lone surrogate" in error
    assert "Ctrl-D or /exit ends" in error


class Script:
    """Makes the tiny model answer with this text, thoughts and calls read by what it has for markers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: SyncGemmaModel, text: str) -> None:
        template = replace(
            GEMMA_3, answer=AnswerFormat(thought=("<unused0>", "<unused1>"), call=("<mask>", "[multimodal]"))
        )
        monkeypatch.setitem(model._chat_format.__dict__, "template", template)
        ids = model.tokenizer.encode(text + "<end_of_turn>", add_bos=False, parse_special=True)
        coming = iter(ids)
        monkeypatch.setattr(Sampler, "choose", lambda *_: next(coming))


THINKS = "<unused0>thought\nHm.\x1b[2J\n<unused1>Noon."


def test_at_a_terminal_thoughts_are_shown_dimmed(
    model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And stay apart from the answer, which alone is kept; control characters in them do nothing to the terminal."""
    Typist(monkeypatch, "Hello")
    Script(monkeypatch, model, THINKS)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    conversation = talk(model, max_tokens=100)
    assert conversation.messages[-1] == {"role": "assistant", "content": "Noon."}
    shown = capsys.readouterr().out
    assert re.sub(r"\x1b\[[02]m", "", shown) == "Hm.\\x1b[2J\n\nNoon.\n\n"
    assert "\x1b[2m" in shown.partition("Noon.")[0]
    assert "\x1b" not in shown.partition("Noon.")[2]


def test_without_a_terminal_thoughts_are_not_written(
    model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Typist(monkeypatch, "Hello")
    Script(monkeypatch, model, THINKS)
    talk(model, max_tokens=100)
    output, error = capsys.readouterr()
    assert output == "Noon.\n\n"
    assert "Hm." not in error


def test_calls_of_tools_are_told(
    model: SyncGemmaModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Typist(monkeypatch, "Hello")
    Script(monkeypatch, model, "<mask>call:f{a:1}[multimodal]<mask>f[multimodal]")
    talk(model, max_tokens=100)
    error = capsys.readouterr().err
    assert "(calls a tool: call:f{a:1})" in error
    assert "(calls a tool wrongly: f It does not begin with" in error


def test_thinking_is_refused_where_the_family_cannot() -> None:
    result = run("chat", *GREEDY, "--thinking", "Hello")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Gemma 3 has no tokens for thoughts" in result.stderr
    assert run("chat", *GREEDY, "--no-thinking", "--max-tokens", "1", "Hello").exit_code == 0


def test_another_template_can_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ bos_token }}{{ messages[0].content }}", encoding="utf-8")
    found = document(run("chat", *GREEDY, "--max-tokens", "1", "--json", "--chat-template", str(file), "Hello there"))
    with SyncGemmaModel(GEMMA) as model:
        assert found["usage"]["prompt_tokens"] == model.count_tokens("Hello there")
    result = run("chat", *GREEDY, "--chat-template", "file", "Hello")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no chat template" in result.stderr


class Terminal:
    """A pseudo-terminal with `mogemma` in it."""

    def __init__(self, *arguments: str) -> None:
        self._own, other = pty.openpty()
        self._process = start(*arguments, stdin=other, stdout=other, stderr=other)
        os.close(other)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Until that is shown after what was waited for before."""
        deadline = time.monotonic() + 20
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            self._read()
        self.shown = self.shown.partition(text)[2]

    def wait_for_more(self) -> None:
        """Until anything is shown after what was waited for before."""
        while not self.shown:
            self._read()

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def _read(self) -> None:
        if select.select([self._own], [], [], 0.1)[0]:
            self.shown += os.read(self._own, 4096).decode("utf-8", "replace")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def status(self) -> int:
        status = self._process.wait(timeout=20)
        os.close(self._own)
        return status


def test_at_a_terminal_ctrl_c_ends_an_answer_and_the_conversation_goes_on(tmp_path: Path) -> None:
    terminal = Terminal("chat", "-m", endless_model(tmp_path), "--temperature", "0", "--stop", "impossible")
    terminal.wait_for("Ctrl-D ends")
    for message in ("Hello", "And now?"):
        terminal.wait_for("> ")
        terminal.type(f"{message}\r")
        terminal.wait_for(f"{message}\r\n")
        terminal.wait_for_more()
        terminal.interrupt()
        terminal.wait_for("(ended)")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.status() == 0


def test_without_a_terminal_to_write_to_answers_alone_are_written(tmp_path: Path) -> None:
    """`mogemma chat > file`: the prompt is for the person, on standard error."""
    own, other = pty.openpty()
    answers = tmp_path / "answers"
    with answers.open("wb") as output:
        process = start("chat", *GREEDY, "--max-tokens", "4", stdin=other, stdout=output)
    os.write(own, b"Hello\n\x04")
    _, error = process.communicate(timeout=20)
    os.close(own)
    os.close(other)
    assert process.returncode == 0
    assert b"> " in error
    assert b">" not in answers.read_bytes()
