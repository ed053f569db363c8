"""The description of a Python function, for a model that may call it: its name, docstring and annotations."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import PromptError

_TYPES: Mapping[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    tuple: "array",
    dict: "object",
}
_ARGUMENTS = re.compile(r"^[ \t]*(?:Args|Arguments|Parameters):[ \t]*$", re.MULTILINE)
_ARGUMENT = re.compile(r"[ \t]+\*{0,2}(\w+)(?:[ \t]*\([^)]*\))?:[ \t]*(.*)")


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Name, description and JSON schema of a function with annotated parameters.

    The description is the first paragraph of its docstring; those of parameters stand there under `Args:`, one a line.

    Raises:
        PromptError: A parameter has no annotation, or one that is not simple.
    """
    name = getattr(function, "__name__", repr(function))
    try:
        parameters = inspect.signature(function).parameters
    except Exception as error:  # newer Pythons evaluate its annotations here, see `_evaluated`
        raise PromptError(f"The signature of {name} cannot be read: {error}. Describe it by a JSON schema.") from error
    docstring = inspect.getdoc(function) or ""
    texts = _descriptions(docstring)
    properties: dict[str, Any] = {}
    for each in parameters.values():
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise PromptError(f"{name} takes {each}, which cannot be given by name. Describe it by a JSON schema.")
        where = f"{name}({each.name})"
        annotation = None if each.annotation is each.empty else _evaluated(each.annotation, function, where)
        schema = _schema(annotation, where)
        properties[each.name] = schema | ({"description": texts[each.name]} if each.name in texts else {})
    required = [each.name for each in parameters.values() if each.default is each.empty]
    schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    return {"name": name, "description": docstring.split("\n\n")[0].replace("\n", " "), "parameters": schema}


def _descriptions(docstring: str) -> dict[str, str]:
    found = _ARGUMENTS.search(docstring)
    lines = docstring[found.end() :].splitlines() if found else []
    return {match[1]: match[2] for line in lines if (match := _ARGUMENT.fullmatch(line))}


def _evaluated(annotation: Any, function: Callable[..., Any], where: str) -> Any:
    """What an annotation means, be it a text or have texts in it. To say so Python runs them, and they may raise anything."""

    def annotated() -> None:
        """Has this one annotation alone."""

    annotated.__annotations__ = {where: annotation}
    try:
        return get_type_hints(annotated, getattr(inspect.unwrap(function), "__globals__", {}))[where]
    except Exception as error:
        raise PromptError(
            f"{where} has the annotation {annotation!r:.60}, which cannot be read: {type(error).__name__}: {error!s:.120}. "
            "Correct it, or describe the tool by a JSON schema."
        ) from error


def _schema(annotation: Any, where: str) -> dict[str, Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        others = [one for one in arguments if one is not type(None)]
        if len(others) == 1 and len(arguments) > 1:
            return {**_schema(others[0], where), "nullable": True}
    elif origin is Literal and arguments and all(isinstance(one, str) for one in arguments):
        return {"type": "string", "enum": list(arguments)}
    elif origin in (list, tuple) and arguments and (origin is list or arguments[1:] == (...,)):
        return {"type": "array", "items": _schema(arguments[0], where)}
    elif origin is dict or (origin is None and annotation in _TYPES):
        return {"type": _TYPES[origin or annotation]}
    shown = "no annotation" if annotation is None else f"the annotation {annotation!r:.60}"
    raise PromptError(
        f"{where} has {shown}; what can be described is str, int, float, bool, list, dict, Literal of texts, and each of "
        "these | None. Annotate it so, or describe the tool by a JSON schema."
    )
