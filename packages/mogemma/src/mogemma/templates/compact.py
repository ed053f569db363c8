"""The notation in which FunctionGemma and Gemma 4 declare tools, call them and are told what came of it.

    declaration:get_time{description:"The time in a city",parameters:{properties:{city:{type:"STRING"}},required:["city"],
                type:"OBJECT"}}
    call:get_time{city:"Oslo",hours:24}
    response:get_time{value:"12:00"}

It is like JSON without quotes around keys, in the order of the alphabet, and without escapes: `"` here is a control token
of the family, which no text can contain. Of a call that breaks the rules, `read_call` tells what is wrong with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .tools import MAX_DEPTH, as_plain, is_name

if TYPE_CHECKING:
    from .conversation import Call, ToolResult
    from .segments import Writer
    from .tools import Tool

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ToolMarkers:
    """The control tokens around declarations, calls, results and texts.

    Attributes:
        always_describes: Write a description where there is none, as an empty text.
    """

    declaration: Pair
    call: Pair
    response: Pair
    quote: str
    always_describes: bool = False

    def declare(self, writer: Writer, tool: Tool) -> None:
        """Write what a tool does and takes."""
        opening, closing = self.declaration
        writer.mark(opening)
        writer.write(f"declaration:{tool.name}{{description:")
        self._text(writer, tool.description)
        writer.write(",parameters:")
        self._schema(writer, tool.parameters, is_parameters=True)
        writer.write("}")
        writer.mark(closing)

    def write_call(self, writer: Writer, call: Call) -> None:
        """Write a call as the model would have written it."""
        opening, closing = self.call
        writer.mark(opening)
        writer.write(f"call:{call.name}")
        self._value(writer, as_plain(call.arguments, f"The arguments of {call.name}"))
        writer.mark(closing)

    def write_result(self, writer: Writer, result: ToolResult) -> None:
        """Write what came of a call; a text has the name `value`."""
        value = {"value": result.value} if isinstance(result.value, str) else result.value
        opening, closing = self.response
        writer.mark(opening)
        writer.write(f"response:{result.name}")
        self._value(writer, as_plain(value, f"The results of {result.name}"))
        writer.mark(closing)

    def _text(self, writer: Writer, text: str) -> None:
        writer.mark(self.quote)
        writer.write(text)
        writer.mark(self.quote)

    def _texts(self, writer: Writer, texts: Iterable[Any]) -> None:
        self._value(writer, [str(text) for text in texts])

    def _value(self, writer: Writer, value: Any, *, quotes_keys: bool = False) -> None:
        if isinstance(value, str):
            self._text(writer, value)
        elif isinstance(value, dict):
            writer.write("{")
            for index, (key, one) in enumerate(_in_order(value)):
                writer.write("," if index else "")
                if quotes_keys:
                    self._text(writer, key)
                else:
                    writer.write(key)
                writer.write(":")
                self._value(writer, one, quotes_keys=quotes_keys)
            writer.write("}")
        elif isinstance(value, list):
            writer.write("[")
            for index, one in enumerate(value):
                writer.write("," if index else "")
                self._value(writer, one, quotes_keys=quotes_keys)
            writer.write("]")
        else:
            writer.write(str(value).lower() if isinstance(value, bool) else str(value))

    def _schema(self, writer: Writer, schema: Mapping[str, Any], *, is_parameters: bool = False) -> None:
        """A JSON schema; `is_parameters`: that of all parameters, which has fewer fields."""
        kinds = [kind.upper() for kind in _as_list(schema.get("type")) if isinstance(kind, str)]
        writer.write("{")
        fields = _Fields(writer)
        if not is_parameters and (schema.get("description") or self.always_describes):
            fields.name("description")
            self._text(writer, str(schema.get("description") or ""))
        if schema.get("enum") and "STRING" in kinds:
            fields.name("enum")
            self._value(writer, schema["enum"], quotes_keys=True)
        if "ARRAY" in kinds and isinstance(schema.get("items"), dict) and schema["items"]:
            fields.name("items")
            self._items(writer, schema["items"])
        if schema.get("nullable"):
            fields.name("nullable")
            writer.write("true")
        properties = schema.get("properties")
        if properties if is_parameters else "OBJECT" in kinds:
            fields.name("properties")
            self._properties(writer, properties)
        if schema.get("required") and "OBJECT" in kinds:
            fields.name("required")
            self._texts(writer, schema["required"])
        if kinds:
            fields.name("type")
            self._value(writer, kinds[0] if isinstance(schema["type"], str) else kinds)
        writer.write("}")

    def _properties(self, writer: Writer, properties: object) -> None:
        writer.write("{")
        for index, (name, schema) in enumerate(_in_order(properties if isinstance(properties, dict) else {})):
            writer.write(f",{name}:" if index else f"{name}:")
            self._schema(writer, schema if isinstance(schema, dict) else {})
        writer.write("}")

    def _items(self, writer: Writer, items: Mapping[str, Any]) -> None:
        """The schema of a list's items, whose fields stand in the order of the alphabet."""
        writer.write("{")
        fields = _Fields(writer)
        for key, value in _in_order(items):
            if value is None:
                continue
            fields.name(key)
            if key == "properties":
                self._properties(writer, value)
            elif key == "required":
                self._texts(writer, _as_list(value))
            elif key == "type":
                self._value(writer, value.upper() if isinstance(value, str) else [str(one).upper() for one in value])
            else:
                self._value(writer, value, quotes_keys=True)
        writer.write("}")


class _Fields:
    """Puts commas between the fields of an object."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._is_first = True

    def name(self, name: str) -> None:
        self._writer.write(f"{name}:" if self._is_first else f",{name}:")
        self._is_first = False


def _in_order(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(mapping.items(), key=lambda item: item[0].lower())


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


class CallError(ValueError):
    """What is wrong with the text of a call; it never leaves this package."""


_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "none": None}
_WORD = re.compile(r"[A-Za-z]+")
_SPACE = re.compile(r"\s*")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def read_call(text: str, quote: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call, given what stands between the markers.

    Args:
        quote: What stands around texts.

    Raises:
        CallError: It cannot be read; the message is a sentence.
    """
    name, brace, _ = text.strip().removeprefix("call:").partition("{")
    if not text.strip().startswith("call:") or not brace or not is_name(name.strip()):
        raise CallError("It does not begin with `call:`, the name of a tool and an opening brace.")
    reader = _Reader(text, text.index("{"), quote)
    arguments = reader.value(0)
    if not reader.is_done():
        raise CallError("There is something behind its closing brace.")
    return name.strip(), arguments


class _Reader:
    """Reads one value of the notation, and JSON's strings besides, at a position of a text."""

    def __init__(self, text: str, at: int, quote: str) -> None:
        self._text = text
        self._at = at
        self._quote = quote

    def is_done(self) -> bool:
        return not self._text[self._at :].strip()

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CallError(f"Its arguments are nested more than {MAX_DEPTH} levels deep.")
        if self._takes("{"):
            return self._object(depth)
        if self._takes("["):
            return self._list(depth)
        if (text := self._string()) is not None:
            return text
        return self._scalar()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._takes("}"):
            if found:
                self._must_take(",")
            key = self._key()
            self._must_take(":")
            if key in found:
                raise CallError(f"It has two values for {key!r:.60}.")
            found[key] = self.value(depth + 1)
        return found

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._takes("]"):
            if found:
                self._must_take(",")
            found.append(self.value(depth + 1))
        return found

    def _key(self) -> str:
        if (text := self._string()) is not None:
            return text
        end = self._text.find(":", self._at)
        key = self._text[self._at : max(end, self._at)].strip()
        if not key or any(sign in key for sign in '{}[],"'):
            raise CallError("A name and a colon are missing before one of its arguments.")
        self._at = end
        return key

    def _string(self) -> str | None:
        """A text between quotes, if there is one here."""
        if self._takes(self._quote):
            start, end = self._at, self._text.find(self._quote, self._at)
            if end < 0:
                raise CallError("It ends inside a text.")
            self._at = end + len(self._quote)
            return self._text[start:end]
        if (match := _JSON_STRING.match(self._text, self._at)) is None:
            return None
        self._at = match.end()
        try:
            text: str = json.loads(match[0], strict=False)
        except ValueError:
            raise CallError("One of its texts has an escape that JSON does not know.") from None
        return text

    def _scalar(self) -> Any:
        if match := _NUMBER.match(self._text, self._at):
            self._at = match.end()
            number = json.loads(match[0])
            if not math.isfinite(number):
                raise CallError("One of its numbers is too large.")
            return number
        match = _WORD.match(self._text, self._at)
        if match is None or match[0].lower() not in _WORDS:
            raise CallError(
                "One of its values is neither a text in quotes, a number, true, false, null, a list nor an object."
            )
        self._at = match.end()
        return _WORDS[match[0].lower()]

    def _takes(self, sign: str) -> bool:
        """Step over spaces, and over the sign if it comes next."""
        space = _SPACE.match(self._text, self._at)
        self._at = self._at if space is None else space.end()
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _must_take(self, sign: str) -> None:
        if not self._takes(sign):
            raise CallError(f"There is no {sign!r} where one should be, or it ends too early.")
