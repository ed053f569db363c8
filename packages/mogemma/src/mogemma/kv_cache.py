"""Where a KV cache overwrites itself, and a copy of that from where an answer begins, to go back to.

    tokens      |------------ prompt ------------|---------- a long answer ----------|
    positions   0                           [-------]                        [-------]
    to go back to                          by the copy                     by the rings

A layer whose window slides keeps a ring of its last keys and values: after the tokens of one more call, those that the window of
an earlier position needs are overwritten. All other layers keep those of every token. So the copy is of the rings alone, and of the
same size whatever the context is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._native import Memory
from .cpu import available_memory
from .errors import OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._native import Engine
    from .architectures.spec import ModelSpec

KEY_BLOCK = 32
"""A layer has room for whole blocks of so many positions (ops/attention_tile.mojo)."""

_LINE = 64
"""Keys, and values, begin at a whole one of so many bytes (runtime/views.mojo)."""

_MOST_OF_MEMORY = 0.5
"""Part of the available memory that a copy may take."""


@dataclass(frozen=True, slots=True)
class LayerCache:
    """The keys and values of one layer in the cache of a sequence, as model/kv_cache.mojo lays them out.

    Attributes:
        start: Byte at which they begin.
        n_bytes: Of both together; 0 where they are an earlier layer's.
        n_slots: Positions that there is room for; position p lies in slot p mod n_slots.
        n_before: Keys before a query that it sees.
    """

    start: int
    n_bytes: int
    n_slots: int
    n_before: int

    def first(self, n_written: int) -> int:
        """The first position whose query finds all the keys that it sees, once so many positions were written."""
        return 0 if n_written <= self.n_slots else n_written - self.n_slots + self.n_before


def layer_caches(spec: ModelSpec, *, context: int, max_tokens: int, number_bytes: int) -> list[LayerCache]:
    """Of every layer, in order.

    Args:
        context: Positions that the cache holds.
        max_tokens: Of one call.
        number_bytes: Of one number of a key.
    """
    layers: list[LayerCache] = []
    start = 0
    for layer in spec.layers:
        n_slots = _round_up(min(context, layer.n_before + max_tokens), KEY_BLOCK)
        keys = _round_up(n_slots * layer.n_kv_heads * layer.head_dim * number_bytes, _LINE)
        layers.append(LayerCache(start, 0 if layer.kv_back else 2 * keys, n_slots, layer.n_before))
        start += layers[-1].n_bytes
    return layers


class Rings:
    """The rings of one cache, and the copy of them: to which positions its session may go back."""

    def __init__(self, engine: Engine, cache: Memory, layers: Sequence[LayerCache], context: int) -> None:
        self._engine = engine
        self._cache = cache
        self._layers = [layer for layer in layers if layer.n_bytes and layer.n_slots < context]
        self._n_slots = min((layer.n_slots for layer in self._layers), default=0)
        self._n_written = 0
        """Positions that the rings were written up to, by calls that were cancelled too."""
        self._copy_at: int | None = None
        self._copy: Memory | None = None
        self._copy_written = 0
        """What `_n_written` was when the copy was taken."""
        self._copy_end = 0
        """The copy holds what the session does up to here; 0: there is none."""

    def expect(self, n_prompt: int) -> None:
        """Say where an answer will begin.

        The copy is taken when that has gone on for a quarter of a call's tokens, but not before a ring is full: short answers
        and short texts lose nothing. It reaches back for the other three quarters, into the end of the prompt.
        """
        self._copy_at = max(n_prompt + self._engine.max_tokens // 4, self._n_slots)

    def write(self, position: int, n_tokens: int) -> None:
        """Say that a call is about to write tokens at a position, in place of all that were there and after it."""
        if n_tokens == 1 and position == self._copy_at:
            self._take_copy(position)
        self._copy_end = min(self._copy_end, position)
        self._n_written = max(self._n_written, position + n_tokens)

    def nearest(self, position: int) -> int:
        """The last position, up to this one, that the session may go back to."""
        if position >= self._first(self._n_written):
            return position
        end = min(position, self._copy_end)
        return end if end >= self._first(self._copy_written) else 0

    def go_back(self, position: int) -> None:
        """Make the rings hold every key that is seen from a position that `nearest` gave.

        Interrupted on the way, they are good for position 0 alone.
        """
        if position == 0:
            self._n_written = 0
        elif position < self._first(self._n_written) and self._copy is not None:
            start = 0
            for layer in self._layers:
                self._cache.write(layer.start, self._copy, start, layer.n_bytes)
                start += layer.n_bytes
            self._n_written = self._copy_written

    def close(self) -> None:
        """Give the copy's memory back."""
        self._copy_end = 0
        if self._copy is not None:
            self._copy.close()

    def _first(self, n_written: int) -> int:
        return max((layer.first(n_written) for layer in self._layers), default=0)

    def _take_copy(self, position: int) -> None:
        """Copy the rings, in place of an older copy; without memory for that there is none."""
        self._copy_end = 0
        if self._copy is None:
            self._copy = self._memory_for_copy()
        if self._copy is None:
            return
        start = 0
        for layer in self._layers:
            self._copy.write(start, self._cache, layer.start, layer.n_bytes)
            start += layer.n_bytes
        self._copy_written, self._copy_end = self._n_written, position

    def _memory_for_copy(self) -> Memory | None:
        """None: there are no rings, or it would take too much for what may never be gone back to."""
        n_bytes = sum(layer.n_bytes for layer in self._layers)
        if not 0 < n_bytes <= _MOST_OF_MEMORY * available_memory():
            return None
        try:
            return Memory(self._engine.kernel, n_bytes, "a copy of sliding windows", huge_pages=True)
        except OutOfMemoryError:
            return None


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
