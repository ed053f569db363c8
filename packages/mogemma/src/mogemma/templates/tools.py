"""Tools that a model may call: as OpenAI describes them, or Python functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PromptError
from .signature import describe_function

MAX_DEPTH = 32
"""Levels of a JSON schema, and of arguments and results."""

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, and the JSON schema of its parameters."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As OpenAI describes it, which is what templates in files expect."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


def is_name(name: object) -> bool:
    """Whether a tool may be called so: no name can be, or open, a marker."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def read_tools(tools: object) -> tuple[Tool, ...]:
    """Check tools.

    Raises:
        PromptError: One is neither a function nor a description of one, or two have the same name.
    """
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or isinstance(tools, (str, bytes)):
        raise PromptError(f"tools is a list of functions, or of descriptions of functions, not {tools!r:.80}.")
    read = tuple(_read_tool(tool) for tool in tools)
    names = [tool.name for tool in read]
    for name in names:
        if names.count(name) > 1:
            raise PromptError(f"Two tools have the name {name!r}. Rename one of them.")
    return read


def _read_tool(tool: object) -> Tool:
    if callable(tool):
        tool = describe_function(tool)
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not is_name(name):
        raise PromptError(
            'A tool is a Python function, or like {"type": "function", "function": {"name": "get_time", "description": '
            f'"...", "parameters": {{...}}}}}}, with a name of letters, digits, _ . and -, not {tool!r:.80}.'
        )
    description, parameters = function.get("description") or "", function.get("parameters") or {}
    if not isinstance(description, str) or not isinstance(parameters, Mapping):
        raise PromptError(f"The tool {name} needs a text as its description and a JSON schema as its parameters.")
    checked = {"type": "object", **as_plain(parameters, f"The parameters of the tool {name}")}
    if not isinstance(checked.get("properties", {}), dict):
        raise PromptError(f"The parameters of the tool {name} have as properties no mapping of names to JSON schemas.")
    return Tool(str(name), description, checked)


def as_plain(value: object, what: str, depth: int = 0) -> Any:
    """A copy in dicts, lists, texts, numbers, booleans and None.

    Raises:
        PromptError: There is something else in it, or it is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise PromptError(f"{what} are nested more than {MAX_DEPTH} levels deep. Make them simpler.")
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_plain(one, what, depth + 1) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [as_plain(one, what, depth + 1) for one in value]
    raise PromptError(f"{what} have a value that JSON cannot hold: {value!r:.60}. Give texts, numbers, lists or dicts.")
