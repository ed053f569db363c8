"""docs/chat.md: what it lists is what there is, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from scripted import as_gemma_4, say, write_gemma_4_like

import mogemma
from mogemma.completion import ChatEvent
from mogemma.errors import PromptError
from mogemma.templates import BUILT_IN, ChatTemplate, Conversation, as_text, read_tools, sandbox
from mogemma.templates.function_gemma import FUNCTION_GEMMA
from mogemma.templates.template import BuiltIn

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "chat.md").read_text(encoding="utf-8")
HI = {"role": "user", "content": "Hi"}
OPENINGS = {
    "user\ns\n\nHi": "opens the user's turn",
    "system\ns": "a turn of its own",
    "developer\ns": "a developer's turn",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, or behind a line that begins so."""
    table = PAGE.partition(heading)[2].partition("|---")[2]
    lines = table.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def takes(template: ChatTemplate, **options: Any) -> str:
    try:
        template.write(Conversation([HI], **options))
    except PromptError:
        return "no"
    return "yes"


def test_the_table_of_families_is_what_the_templates_do() -> None:
    templates: dict[str, BuiltIn] = {**BUILT_IN, "FunctionGemma": FUNCTION_GEMMA}
    expected = []
    for name, template in templates.items():
        written = as_text(template.write(Conversation([{"role": "system", "content": "s"}, HI])))
        opening = next(how for text, how in OPENINGS.items() if text in written.partition(">")[2])
        ends = ", ".join(f"`{end}`" for end in template.stops).replace("|", "\\|")
        tools = takes(template, tools=read_tools([{"name": "f"}]))
        expected.append(
            [f"`{name}`" if name in BUILT_IN else name, opening, tools, takes(template, thinking=True), ends]
        )
    assert rows("## What each family takes") == expected


def test_the_table_of_events_has_every_kind() -> None:
    kinds = get_args(get_type_hints(ChatEvent)["kind"])
    assert [re.findall(r'"(\w+)"', cells[0])[0] for cells in rows("as `ChatEvent`:")] == list(kinds)


def test_the_limits_are_those_of_the_sandbox() -> None:
    assert f"{sandbox.CPU_SECONDS} seconds of computing or {sandbox.MEMORY_BYTES >> 20} MB of memory" in " ".join(
        PAGE.split()
    )


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a model that calls the tool, rightly and wrongly, and then answers."""
    path = write_gemma_4_like(tmp_path)
    with mogemma.SyncGemmaModel(path, threads=1) as model:
        call = '<|tool_call>call:get_time{city:<|"|>Oslo<|"|>}<tool_call|>'
        wrong = "<|tool_call>call:<tool_call|>"
        say(monkeypatch, model.tokenizer, f"{call}{wrong}<|tool_response>", f"{wrong}It is noon.<turn|>")
        monkeypatch.setattr(mogemma, "SyncGemmaModel", lambda name: as_gemma_4(model))
        (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        exec(example, {})
    assert capsys.readouterr().out == "It is noon.\n"
