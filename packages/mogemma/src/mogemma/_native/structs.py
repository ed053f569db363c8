"""The header's structs, filled from plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .kernel import Kernel


class Structs:
    """Makes structs, and keeps what they point to alive."""

    def __init__(self, kernel: Kernel) -> None:
        self._ffi = kernel.ffi
        self._kept: list[object] = []

    def new(self, struct: str, fields: Mapping[str, Any]) -> Any:
        """A struct of that name. A mapping is a struct inside it, a list a pointer to structs, a buffer a pointer."""
        made = self._ffi.new(f"mogemma_{struct} *", self._fields(struct, fields))
        self._kept.append(made)
        return made

    def _fields(self, struct: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        types = dict(self._ffi.typeof(f"mogemma_{struct}").fields)
        return {name: self._value(types[name].type, value) for name, value in fields.items()}

    def _value(self, ctype: Any, value: Any) -> Any:
        if value is None:
            return self._ffi.NULL
        if isinstance(value, Mapping):
            return self._fields(ctype.cname.removeprefix("mogemma_"), value)
        if isinstance(value, list):
            struct = ctype.item.cname.removeprefix("mogemma_")
            array = self._ffi.new(f"mogemma_{struct}[]", [self._fields(struct, one) for one in value])
            self._kept.append(array)
            return array
        if isinstance(value, (np.ndarray, memoryview)):
            buffer = self._ffi.from_buffer(value)
            self._kept.append(buffer)
            return self._ffi.cast(ctype, buffer)
        return value

    def release(self) -> None:
        """Let go of the buffers, so that their files can be unmapped."""
        for kept in self._kept:
            if isinstance(kept, self._ffi.CData) and self._ffi.typeof(kept).kind == "array":
                self._ffi.release(kept)
        self._kept.clear()
