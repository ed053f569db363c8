"""JSON written by strangers: bounded in size and number of values, no key twice, errors with the file's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import ModelFormatError
from .files import read_small_file

if TYPE_CHECKING:
    from pathlib import Path

MAX_JSON_BYTES = 8 << 20
"""EmbeddingGemma's tokenizer_config.json, the largest such file of a Gemma, has 1.2 MB."""

MAX_JSON_VALUES = 1 << 18
"""A small text can be a large object: `[]` takes 64 bytes. The same tokenizer_config.json has 45000 values."""

_MAX_DIGITS = 64  # int() of a long number takes quadratic time; tokenizer_config.json has one of 31 digits


def read_json_file(path: Path) -> object:
    """Parse a side file of a model.

    Raises:
        ModelNotFoundError: There is no such file, or this user may not read it.
        ModelFormatError: It is too large, or not JSON.
    """
    return parse_json(read_small_file(path, MAX_JSON_BYTES), str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a side file that must be a JSON object, such as config.json; errors as in `read_json_file`."""
    value = read_json_file(path)
    if not isinstance(value, dict):
        raise ModelFormatError(f"{path} is not a JSON object but {type(value).__name__}. Download it again.")
    return value


def parse_json(data: bytes, source: str) -> object:
    """Parse `data`; `source` says in errors where it came from.

    Raises:
        ModelFormatError: Not JSON, not UTF-8, a key twice in one object, nested too deeply, or too many values.
    """
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_JSON_VALUES:
        raise ModelFormatError(f"{source} has more than {MAX_JSON_VALUES} values, which no model needs.")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_int=_integer)
    except ModelFormatError as error:
        raise ModelFormatError(f"{source} is damaged: {error}") from None
    except RecursionError:
        raise ModelFormatError(f"{source} is damaged: its JSON is nested too deeply.") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ModelFormatError(
            f"{source} is damaged: it is not JSON ({str(error)[:200]}). Download it again."
        ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ModelFormatError(f"the key {key[:80]!r} is there twice.")
        seen.add(key)
    return result


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ModelFormatError(f"a number has {len(digits)} digits.")
    return int(digits)
