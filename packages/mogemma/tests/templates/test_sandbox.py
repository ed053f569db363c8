"""Templates by strangers: they get what other libraries give them, and can neither hang, fill the memory nor look around."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from mogemma.errors import PromptError
from mogemma.templates import sandbox
from mogemma.templates.sandbox import render

HI = [{"role": "user", "content": "Hi"}]


def text(source: str, **variables: Any) -> str:
    return render(source, {"messages": HI, **variables}, "the model")


class TestWhatTemplatesExpect:
    def test_blocks_are_trimmed(self) -> None:
        """As by the libraries that templates are written for; `{{ }}` is not a block."""
        assert text(
            "{% for m in messages %}\n  {% if m.role == 'user' %}\nU:{{ m['content'] }}\n  {% endif %}\n{% endfor %}"
        ) == ("U:Hi\n")

    def test_loops_have_break_and_continue(self) -> None:
        assert (
            text(
                "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
            )
            == "02"
        )

    def test_json_is_not_made_for_html(self) -> None:
        assert text("{{ x | tojson }}", x={"a": "<é>&'"}) == '{"a": "<é>&\'"}'
        assert text("{{ x | tojson(indent=1) }}", x=[1]) == "[\n 1\n]"

    def test_there_is_a_clock(self) -> None:
        assert re.fullmatch(r"20\d\d-\d\d", text("{{ strftime_now('%Y-%m') }}"))

    def test_what_training_marks_is_plain_text(self) -> None:
        assert text("{% generation %}a{{ messages[0].content }}{% endgeneration %}") == "aHi"

    def test_what_a_template_refuses_it_says(self) -> None:
        with pytest.raises(PromptError, match=r"template of the model refuses this conversation: No system here$"):
            text("{{ raise_exception('No system here') }}")

    @pytest.mark.parametrize("content", ["", "日本\U0001f600\n", "\0\x85\r\n"])
    def test_texts_come_through_as_they_are(self, content: str) -> None:
        assert text("{{ x }}", x=content) == content


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].system('id') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "{{ ('{0.__class__}'|string).format_map({'0': 1}) }}",
    "{% set f = '{0.__class__.__base__}'.format %}{{ f(messages) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='model') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'x' %}",
]
ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% if loop.index == 7 %}{% continue %}{% endif %}{% endfor %}{% endfor %}",
    "{{ 9 ** (9 ** 9) }}",
    "{% macro f(n) %}{% for i in range(99999) %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}",
    "{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' | wordwrap(1) }}{% for i in range(99999) %}{% set x = range(99999) | sort | join %}{% endfor %}",
]
LARGE = [
    "{{ 'a' * 10 ** 12 }}",
    "{{ '%1000000000000d' % 1 }}",
    "{{ '{:>1000000000000}'.format(1) }}",
    "{{ 'a' | center(10 ** 12) }}",
    "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% for i in range(90000) %}{{ 'a' * 10000 }}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{{ lipsum(n=10 ** 9) }}",
]
BROKEN = [
    "{% for",
    "{{ messages[0",
    "{% if x %}",
    "{% unknown %}",
    "{{ x | nofilter }}",
    "{{ x.y.z }}",
    "{{ 1 / 0 }}",
    "{{ nothing() }}",
    "{{ messages + 1 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if a %}" * 500 + "{% endif %}" * 500,
    "{{ [" + "[" * 300 + "]" * 300 + "] }}",
]


class TestHostileTemplates:
    @pytest.mark.parametrize("source", ESCAPES)
    def test_see_nothing_of_python(self, source: str) -> None:
        """They are refused, or what they ask for is undefined, which is written as nothing."""
        try:
            assert text(source) == ""
        except PromptError as error:
            assert "template of the model cannot be rendered" in str(error)  # noqa: PT017  most are refused, some find nothing

    @pytest.mark.parametrize("source", [*ENDLESS, *LARGE], ids=lambda source: source.strip("{}% ")[-30:])
    def test_are_ended(self, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
        started = time.monotonic()
        with pytest.raises(
            PromptError, match=r"template of the model (takes more|needs more|cannot be|is nested|ended)"
        ):
            text(source)
        assert time.monotonic() - started < sandbox.WALL_SECONDS + 5

    @pytest.mark.parametrize("source", BROKEN, ids=lambda source: source.strip("{}% ")[-30:])
    def test_that_are_broken_get_a_sentence(self, source: str) -> None:
        with pytest.raises(PromptError, match=r"template of the model (cannot be rendered|is nested|needs|ended)"):
            text(source)

    def test_a_template_that_never_ends_does_not_outlive_its_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system counts no seconds of computing, the clock does."""
        monkeypatch.setattr(sandbox, "CPU_SECONDS", 1000)
        monkeypatch.setattr(sandbox, "WALL_SECONDS", 1.5)
        with pytest.raises(PromptError, match="takes more than"):
            text(ENDLESS[0])


class TestTheProcess:
    def test_sees_no_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Should a template find a way out after all, there are no tokens of its user to read."""
        given: dict[str, Any] = {}

        def run(command: Any, **options: Any) -> Any:
            given.update(options, command=command)
            raise OSError("no more processes")

        monkeypatch.setenv("SECRET", "x")
        monkeypatch.setattr(subprocess, "run", run)
        with pytest.raises(PromptError, match="cannot be started: no more processes"):
            text("a")
        assert "SECRET" not in given["env"]
        assert given["command"][:3] == [sys.executable, "-I", "-S"]

    def test_without_jinja2_there_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sandbox, "find_spec", lambda name: None)
        with pytest.raises(PromptError, match=r"not installed. Install mogemma\[templates\]"):
            text("a")

    def test_a_program_without_a_python_gets_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a frozen program sys.executable is the program itself, which must not be started again."""
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(PromptError, match="knows no Python to start"):
            text("a")

    def test_a_crash_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        child = tmp_path / "child.py"
        child.write_text("import os; os.abort()", encoding="utf-8")
        monkeypatch.setattr(sandbox, "_CHILD", child)
        with pytest.raises(PromptError, match=r"ended the process that rendered it \(status -6\)"):
            text("a")

    def test_what_it_is_given_may_be_large(self) -> None:
        """More than a pipe holds, in both directions."""
        long = "日本 <x> " * 100_000
        assert text("{{ x }}", x=long) == long
        assert json.loads(text("{{ x | tojson }}", x=long)) == long
