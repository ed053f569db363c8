"""A description as aligned lines, for people; `--json` has the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .streams import write


def write_fields(fields: Mapping[str, Any], *, indent: int = 0, labels: Mapping[str, str] | None = None) -> None:
    """One line for each field; sizes in MB, counts with separators.

    Args:
        labels: What a person calls some of the fields; the others keep their names.
    """
    given = labels or {}
    names = {name: given.get(name, name.removesuffix("_bytes").replace("_", " ")) for name in fields}
    write_table([[names[name], spelled(name, value)] for name, value in fields.items()], indent=indent)


def write_table(rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
    """One line for each row; every column but the last as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
        write(f"{'':{indent}}{'  '.join(cells)}".rstrip() + "\n")


def spelled(name: str, value: Any) -> str:
    """A value as a person reads it; what it is of is in the name's end."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return size(value) if name.endswith("_bytes") else f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{spelled(name, one)} {key}" for key, one in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(spelled(name, one) for one in value) or "-"
    return str(value)


def size(n_bytes: int) -> str:
    """In decimal units, with about three digits."""
    amount = float(n_bytes)
    for unit in ("bytes", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if amount >= 99.95 or unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"
