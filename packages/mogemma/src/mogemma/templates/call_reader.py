"""Calls of tools as a model wrote them, in the notation of `compact.py`: read, or told what is wrong with them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from .tools import MAX_DEPTH, is_name


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
