"""The texts of all pieces, as they lie in the file: a quarter of a million Python strings are made only when needed."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

_WINDOW = 4  # bytes of a piece that are looked for in a text
_WINDOW_MASKS = np.array([(1 << 8 * n) - 1 for n in range(_WINDOW + 1)], np.uint32)
_N_BUCKETS = 1 << 18

Ids = npt.NDArray[np.int64]


class Pieces:
    """Byte strings that lie in one buffer; piece i is `data[starts[i]:ends[i]]`."""

    def __init__(self, data: bytes, starts: Ids, ends: Ids) -> None:
        self.data = data
        self.starts = starts
        self.ends = ends

    @property
    def lengths(self) -> Ids:
        return self.ends - self.starts

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Pieces:
        """Lay the texts out in a buffer of their own."""
        texts = list(texts)
        bounds = np.fromiter(accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
        return cls(b"".join(texts), bounds[:-1], bounds[1:])

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, token: int) -> bytes:
        return self.data[self.starts[token] : self.ends[token]]

    def ids_by_text(self, ids: Ids) -> dict[bytes, int]:
        """Text to id for the given ids, which ascend; of two equal pieces the first counts."""
        data, backwards = self.data, ids[::-1]
        bounds = zip(self.starts[backwards].tolist(), self.ends[backwards].tolist(), backwards.tolist(), strict=True)
        return {data[start:end]: token for start, end, token in bounds}

    def may_occur_in(self, text: bytes) -> npt.NDArray[np.bool_]:
        """False for each piece that is certainly not in the text; true for those that are, and a few others.

        Compares hashes of the first and the last four bytes of each piece with those of the text.
        """
        seen = np.zeros(_N_BUCKETS, np.bool_)
        windows = _windows(text + bytes(_WINDOW))
        for n_bytes in range(1, _WINDOW + 1):
            whole = windows[: max(0, len(text) - n_bytes + 1)]
            seen[_buckets(whole, np.full(len(whole), n_bytes))] = True
        first, last = self._end_buckets
        return seen[first] & seen[last]

    @cached_property
    def _end_buckets(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """The buckets of the first and the last four bytes of each piece; a shorter piece is its own first and last."""
        windows = _windows(self.data + bytes(_WINDOW))
        lengths = np.minimum(self.lengths, _WINDOW)
        return _buckets(windows[self.starts], lengths), _buckets(windows[self.ends - lengths], lengths)


def _windows(data: bytes) -> npt.NDArray[np.uint32]:
    """The four bytes from each position on, as one number, without a copy."""
    return np.ndarray((len(data) - _WINDOW + 1,), np.dtype("<u4"), data, strides=(1,))


def _buckets(windows: npt.NDArray[np.uint32], n_bytes: Ids) -> npt.NDArray[np.uint32]:
    """A hash below _N_BUCKETS of the first `n_bytes` of each window (Knuth's multiplicative hashing)."""
    key = (windows & _WINDOW_MASKS[n_bytes]) + n_bytes.astype(np.uint32) * np.uint32(0x85EBCA6B)
    return key * np.uint32(0x9E3779B1) >> np.uint32(32 - 18)
