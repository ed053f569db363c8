"""What an option may be: each value checked against its range, each unknown name answered with the nearest known one."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Check = Callable[[str, Any], Any]
"""Takes a field's name and a value; returns the value as it is kept, or raises ConfigError."""

ELSEWHERE = {
    "max_completion_tokens": "max_tokens",
    "max_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_sequence_length": "context",
    "model_path": "model",
    "n_ctx": "context",
    "n_predict": "max_tokens",
    "n_threads": "threads",
    "num_ctx": "context",
    "num_predict": "max_tokens",
    "num_threads": "threads",
    "stop_sequences": "stop",
    "stop_strings": "stop",
    "top_logprobs": "logprobs",
    "truncate_dim": "dimensions",
}
"""What other libraries call an option, where the spelling does not lead to ours."""


def checked(check: Check) -> Mapping[str, Check]:
    """The metadata of a dataclass field whose values `check_fields` passes through `check`."""
    return {"check": check}


def check_fields(instance: DataclassInstance) -> None:
    """Bring every field of a frozen dataclass into the form in which it is kept; None, where it is the default, is unset.

    Raises:
        ConfigError: A value is of the wrong type or out of range.
    """
    for each in fields(instance):
        value = getattr(instance, each.name)
        if value is not None or each.default is not None:
            object.__setattr__(instance, each.name, each.metadata["check"](each.name, value))


def known_options(options: Mapping[str, object], known: Iterable[str], *, why_not: Mapping[str, str]) -> dict[str, Any]:
    """The options that are set, by their own names.

    Args:
        options: As a caller gave them; None is unset.
        known: The names that exist.
        why_not: What to say about names that exist elsewhere.

    Raises:
        ConfigError: There is no such option, or it is given twice.
    """
    options = dict(options)
    if "repeat_penalty" in options:
        alias = options.pop("repeat_penalty")
        if alias is not None and options.get("repetition_penalty") is not None:
            raise ConfigError("repeat_penalty is another name of repetition_penalty: give one of them, not both.")
        options["repetition_penalty"] = alias if alias is not None else options.get("repetition_penalty")
    names = list(known)
    for name in options:
        if name not in names:
            raise ConfigError(f"There is no option {name!r:.60} here. {why_not.get(name) or _nearest(name, names)}")
    return {name: value for name, value in options.items() if value is not None}


def _nearest(name: str, known: list[str]) -> str:
    guess = ELSEWHERE.get(name)
    near = [guess] if guess in known else get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else f"The options are {', '.join(known)}."


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """Raise the ConfigError for a value that is not what is wanted."""
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python prints
        shown = f"a {type(value).__name__} too long to show"
    raise ConfigError(f"{name} is {shown if len(shown) <= 60 else shown[:60] + '...'}; it must be {wanted}.")


def whole(least: int, most: int | None = None, *, note: str = "") -> Check:
    """An int, Python's or numpy's, but no bool."""
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def check(name: str, value: object) -> int:
        found = _as_int(value)
        if found is None or found < least or (most is not None and found > most):
            refuse(name, value, wanted + note)
        return found

    return check


def number(least: float, most: float = math.inf, *, above: bool = False, note: str = "") -> Check:
    """A finite number, but no bool. `above`: `least` itself is outside the range."""
    low = f"above {least:g}" if above else f"{least:g}" if math.isfinite(most) else f"at least {least:g}"
    wanted = f"a finite number {'' if above else 'from ' if math.isfinite(most) else 'of '}{low}"
    wanted += f"{' and at most' if above else ' to'} {most:g}" if math.isfinite(most) else ""

    def check(name: str, value: object) -> float:
        found = _as_float(value)
        if not math.isfinite(found) or not least <= found <= most or (above and found == least):
            refuse(name, value, wanted + note)
        return found

    return check


def _as_int(value: object) -> int | None:
    """None for what is no whole number."""
    return None if isinstance(value, bool) or not isinstance(value, numbers.Integral) else int(value)


def _as_float(value: object) -> float:
    """NaN for what is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def one_of(*choices: str) -> Check:
    wanted = " or ".join([", ".join(map(repr, choices[:-1])), repr(choices[-1])])

    def check(name: str, value: object) -> object:
        if not isinstance(value, str) or value not in choices:
            refuse(name, value, wanted)
        return value

    return check


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        refuse(name, value, "True or False")
    return value


def model_name(name: str, value: object) -> str | Path:
    """A path, or a string that may be a path, an alias or the name of a model on a hub."""
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip():
        refuse(name, value, "the path of a model file or folder, or a model's name")
    return value if isinstance(value, str) else Path(value)


def text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        refuse(name, value, "a text that is not empty")
    return value


def path_or_text(name: str, value: object) -> str | Path:
    """A text that is not empty, or a path."""
    return Path(value) if isinstance(value, os.PathLike) else text(name, value)


def texts(name: str, value: object) -> tuple[str, ...]:
    """One text or several, none of them empty."""
    several = [value] if isinstance(value, str) else value
    wanted = "a text, or a list of texts, none of them empty"
    if not isinstance(several, Iterable) or isinstance(several, (bytes, Mapping)):
        refuse(name, value, wanted)
    kept = tuple(several)
    if not all(isinstance(one, str) and one for one in kept):
        refuse(name, value, wanted)
    return kept


def token_set(n_tokens: int) -> Check:
    """Ids of tokens, of which there are so many; kept as a set."""
    wanted = f"a list of token ids, whole numbers from 0 to {n_tokens - 1}"

    def check(name: str, value: object) -> frozenset[int]:
        if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
            refuse(name, value, wanted)
        kept = list(value)
        ids = [_as_int(one) for one in kept]
        if not all(one is not None and 0 <= one < n_tokens for one in ids):
            refuse(name, kept, wanted)
        return frozenset(one for one in ids if one is not None)

    return check


def token_biases(name: str, value: object) -> dict[int, float]:
    """Token ids to what is added to their logits; whether the model has such tokens is checked where they are used."""
    if not isinstance(value, Mapping):
        refuse(name, value, "a mapping of token ids to numbers")
    token_id = whole(0, note=", the id of a token")
    bias = number(-1000, 1000, note=", or -inf to forbid the token")
    return {
        token_id(f"a key of {name}", key): -math.inf if one == -math.inf else bias(f"{name}[{key}]", one)
        for key, one in value.items()
    }
