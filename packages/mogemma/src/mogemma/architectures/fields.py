"""Reads a model's configuration field by field: each is there, of its type and in its range, or a sentence says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_T = TypeVar("_T")

_MOST = 2**24

_SMALLEST, _LARGEST = 1e-12, 1e12
"""Numbers between these stay finite in float32, whatever the forward pass makes of them."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A configuration and the file it comes from; `prefix` is how that file spells the keys."""

    values: Mapping[str, Any]
    source: Path
    prefix: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value; null counts as absent."""
        value = self.values.get(self.prefix + key)
        return default if value is None else value

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def integer(self, key: str, default: int | None = None, *, least: int = 1, most: int = _MOST) -> int:
        """A whole number between `least` and `most`."""
        value = self._required(key, default)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            self._refuse(key, value, "a whole number")
        if not least <= value <= most:
            self._refuse(key, value, f"{least} to {most}")
        return int(value)

    def number(
        self, key: str, default: float | None = None, *, least: float = _SMALLEST, or_zero: bool = False
    ) -> float:
        """A number between `least` and the largest that makes sense; with `or_zero` also 0."""
        value = self._required(key, default)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            self._refuse(key, value, "a number")
        if not least <= value <= _LARGEST and not (or_zero and value == 0):
            self._refuse(key, value, f"a number from {least:g} to {_LARGEST:g}{' or 0' if or_zero else ''}")
        return float(value)

    def softcap(self, key: str, default: float) -> float:
        """A soft cap: 0 for none, which is also what an explicit null says; `default` where nothing is said."""
        if self.prefix + key in self.values and not self.has(key):
            return 0.0
        return self.number(key, default, or_zero=True)

    def signed(self, key: str, default: float | None) -> float:
        """A number of any sign; minus infinity is one too."""
        value = self._required(key, default)
        is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
        if not is_number or math.isnan(value) or value > _LARGEST:
            self._refuse(key, value, "a number")
        return float(value)

    def integers(self, key: str, n: int, default: int | None = None) -> tuple[int, ...]:
        """`n` whole numbers: a list of them, or one for all."""
        return self._each(key, n, lambda one: one.integer(key, default))

    def numbers(self, key: str, n: int, default: float | None = None) -> tuple[float, ...]:
        """`n` numbers of any sign: a list of them, or one for all."""
        return self._each(key, n, lambda one: one.signed(key, default))

    def flags(self, key: str, n: int) -> tuple[bool, ...]:
        """`n` times true or false: a list of them, or one for all."""
        return self._each(key, n, lambda one: one.flag(key, False))

    def _each(self, key: str, n: int, read: Callable[[Fields], _T]) -> tuple[_T, ...]:
        """What `read` makes of these fields with each item of a list in place of it."""
        value = self.get(key)
        if not isinstance(value, (list, tuple, np.ndarray)):
            return (read(self),) * n
        if len(value) != n:
            self._refuse(key, value, f"a list of {n}")
        return tuple(read(Fields({self.prefix + key: item}, self.source, self.prefix)) for item in value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, (bool, np.bool_)):
            self._refuse(key, value, "true or false")
        return bool(value)

    def choice(self, key: str, allowed: Collection[str], default: str) -> str:
        """One of several names.

        Raises:
            UnsupportedModelError: It is another.
        """
        value = self.get(key, default)
        if not isinstance(value, str):
            self._refuse(key, value, f"one of: {', '.join(allowed)}")
        if value not in allowed:
            raise UnsupportedModelError(
                f"{self.source}: {self.prefix + key!r} is {value!r:.60}; mogemma runs {', '.join(allowed)}."
            )
        return value

    def names(self, key: str, allowed: frozenset[str], length: int) -> tuple[str, ...]:
        """A list of `length` names, each of them allowed."""
        value = self._required(key, None)
        if not isinstance(value, (list, tuple)) or len(value) != length or not allowed.issuperset(map(str, value)):
            self._refuse(key, value, f"a list of {length} of: {', '.join(sorted(allowed))}")
        return tuple(value)

    def section(self, key: str) -> Fields:
        """A mapping inside this one."""
        value = self._required(key, None)
        if not isinstance(value, Mapping):
            self._refuse(key, value, "a group of fields")
        return Fields(value, self.source)

    def _required(self, key: str, default: Any) -> Any:
        value = self.get(key, default)
        if value is None:
            raise ModelFormatError(f"{self.source}: the configuration lacks {self.prefix + key!r}.")
        return value

    def _refuse(self, key: str, value: object, wanted: str) -> NoReturn:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        raise ModelFormatError(f"{self.source}: {self.prefix + key!r} is {shown}, it must be {wanted}.")
