"""The notation in which FunctionGemma and Gemma 4 declare tools, call them and are told what came of it.

    declaration:get_time{description:"The time in a city",parameters:{properties:{city:{type:"STRING"}},required:["city"],
                type:"OBJECT"}}
    call:get_time{city:"Oslo",hours:24}
    response:get_time{value:"12:00"}

It is like JSON without quotes around keys, in the order of the alphabet, and without escapes: `"` here is a control token
of the family, which no text can contain. `call_reader.py` reads what a model wrote in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .tools import as_plain

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
        self._parameters(writer, tool.parameters)
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

    def _parameters(self, writer: Writer, schema: Mapping[str, Any]) -> None:
        """The JSON schema of all parameters of a tool."""
        writer.write("{")
        fields = _Fields(writer)
        if schema.get("properties"):
            fields.name("properties")
            self._properties(writer, schema["properties"])
        self._required_and_type(writer, fields, schema)
        writer.write("}")

    def _schema(self, writer: Writer, schema: Mapping[str, Any]) -> None:
        """The JSON schema of one parameter."""
        kinds = _kinds(schema)
        writer.write("{")
        fields = _Fields(writer)
        if schema.get("description") or self.always_describes:
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
        if "OBJECT" in kinds:
            fields.name("properties")
            self._properties(writer, schema.get("properties"))
        self._required_and_type(writer, fields, schema)
        writer.write("}")

    def _required_and_type(self, writer: Writer, fields: _Fields, schema: Mapping[str, Any]) -> None:
        kinds = _kinds(schema)
        required = _texts_in(schema.get("required"))
        if required and "OBJECT" in kinds:
            fields.name("required")
            self._value(writer, required)
        if kinds:
            fields.name("type")
            self._value(writer, kinds if isinstance(schema["type"], list) else kinds[0])

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
                self._value(writer, _texts_in(value))
            elif key == "type":
                self._value(writer, _kinds(items) if isinstance(value, list) else str(value).upper())
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


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """The type of a schema, or its types, as the families write them."""
    kind = schema.get("type")
    return [one.upper() for one in _texts_in(kind if isinstance(kind, list) else [kind])]


def _texts_in(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
