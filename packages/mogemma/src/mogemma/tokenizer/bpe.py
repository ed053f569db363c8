"""Byte-pair encoding by score: the algorithm of a SentencePiece BPE model (Sennrich et al. 2016, arXiv:1508.07909).

Start from single code points; again and again join the adjacent pair whose concatenation is the piece of the highest
score, the leftmost on a tie; what ends up outside the vocabulary is written byte by byte. In Python, because the start
decides here: the pieces that one prompt needs are found in 20 ms, while a compiled tokenizer first takes in all of them.
"""

from __future__ import annotations

import re
import threading
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import TokenizerError
from .vocabulary import PieceType

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from .vocabulary import Vocabulary

SPACE = "▁"
_SPACE_BYTES = SPACE.encode()
_MAX_PARTIAL_TEXTS = 8  # by then, taking in pieces text by text has cost as much as taking in all
_MAX_JOINTS = 64
_SHORT_WORD = 32  # code points; up to here the plain way is the faster one
_NEVER = 1 << 32
_MAX_CACHED_WORDS = 1 << 16
_MAX_CACHED_LENGTH = 64


class BytePairEncoder(dict[str, list[int]]):
    """Turns text into ids; a mapping from each word met so far to its ids, so that a word is merged only once.

    The text has its spaces written as "▁" and holds no control or user-defined piece: the caller has cut those out.
    `prepare` has been called with it, or with a text that it is part of.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self._turns = _turns(vocabulary.scores)
        self._byte_ids = vocabulary.byte_ids()
        self._ids: dict[bytes, int] = {}  # the normal pieces taken in so far: all that occur in the texts prepared
        self._joints: set[tuple[str, str]] = set()
        self._words = _word_pattern(self._joints)
        self._n_texts = 0
        self._lock = threading.Lock()

    def prepare(self, text: str) -> None:
        """Take in the pieces that may occur in `text`; from the ninth text on, all there are."""
        if self._n_texts > _MAX_PARTIAL_TEXTS:
            return
        with self._lock:
            is_last = self._n_texts == _MAX_PARTIAL_TEXTS
            ids = self._vocabulary.of_type(PieceType.NORMAL) if is_last else self._vocabulary.normal_in(text)
            joints = _joints(ids)
            if not joints <= self._joints:
                self._joints |= joints
                self._words = _word_pattern(self._joints)
            self._ids.update(ids)
            self._n_texts += 1

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, as if it were merged in one piece."""
        return list(chain.from_iterable(map(self.__getitem__, self._words.findall(text))))

    def __missing__(self, word: str) -> list[int]:
        ids = self._merge(word.encode())
        if len(word) <= _MAX_CACHED_LENGTH:
            if len(self) >= _MAX_CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids

    def piece_id(self, piece: str) -> int | None:
        """The id of a normal piece that has been prepared."""
        return self._ids.get(piece.encode())

    def _merge(self, word: bytes) -> list[int]:
        bounds = [at for at, byte in enumerate(word) if byte & 0xC0 != 0x80]  # where the code points begin
        bounds.append(len(word))
        bounds = (self._merge_short if len(bounds) <= _SHORT_WORD else self._merge_long)(word, bounds)
        merged: list[int] = []
        for start, end in pairwise(bounds):
            token = self._ids.get(word[start:end])
            merged += self._spell(word[start:end]) if token is None else (token,)
        return merged

    def _merge_short(self, word: bytes, bounds: list[int]) -> list[int]:
        """Where the symbols begin once nothing more can be merged. The algorithm as it is defined, quadratic in time.

        Args:
            bounds: Where the code points begin, and the end of the word. Is changed.
        """
        turns = [self._turn(word[start:end]) for start, end in zip(bounds, bounds[2:], strict=False)]
        while turns and (turn := min(turns)) != _NEVER:
            left = turns.index(turn)
            del bounds[left + 1], turns[left]
            if left < len(turns):
                turns[left] = self._turn(word[bounds[left] : bounds[left + 2]])
            if left:
                turns[left - 1] = self._turn(word[bounds[left - 1] : bounds[left + 1]])
        return bounds

    def _merge_long(self, word: bytes, bounds: list[int]) -> list[int]:
        """The same in O(n log n): symbols are a linked list, and the pairs that may merge wait in a heap."""
        n = len(bounds) - 1
        ends = [*bounds[1:], 0]  # of each symbol; 0 once it is swallowed by its neighbour, and behind the last one
        following, preceding = list(range(1, n + 1)), list(range(-1, n))
        # One number holds turn, left symbol and end of the right one, in this order of weight: it compares fast.
        waiting = [self._turn(word[bounds[i] : ends[i + 1]]) << 64 | i << 32 | ends[i + 1] for i in range(n - 1)]
        heapify(waiting)
        while waiting and (first := heappop(waiting)) < _NEVER << 64:
            left, end = first >> 32 & 0xFFFFFFFF, first & 0xFFFFFFFF
            right = following[left]
            if not ends[left] or ends[right] != end:
                continue  # one of the two has merged with another since
            ends[left], ends[right] = end, 0
            after = following[left] = following[right]
            preceding[after] = left
            if after < n:
                heappush(waiting, self._turn(word[bounds[left] : ends[after]]) << 64 | left << 32 | ends[after])
            before = preceding[left]
            if before >= 0:
                heappush(waiting, self._turn(word[bounds[before] : end]) << 64 | before << 32 | end)
        return [start for start, end in zip(bounds, ends, strict=True) if end] + bounds[-1:]

    def _turn(self, piece: bytes) -> int:
        """When a piece is merged: the higher its score the lower."""
        token = self._ids.get(piece)
        return _NEVER if token is None else self._turns[token]

    def _spell(self, symbol: bytes) -> Iterable[int]:
        """A character outside the vocabulary: its bytes, or `<unk>` where the vocabulary has no bytes."""
        ids = [self._byte_ids[byte] for byte in symbol]
        if None not in ids:
            return [token for token in ids if token is not None]
        if self._vocabulary.unk_id is None:
            raise TokenizerError(
                f"This vocabulary has no piece for {symbol.decode()!r}, none for its bytes, and no <unk>: "
                "remove the character, or use a checkpoint whose tokenizer is complete."
            )
        return (self._vocabulary.unk_id,)


def _turns(scores: npt.NDArray[np.float32]) -> memoryview[int]:
    """Numbers from 0 to 2**32 - 1 that ascend as the scores descend, and are equal where those are."""
    bits = (np.float32(0) - scores).view(np.int32)  # 0 - x rather than -x: zero then has one sign
    ascending = bits ^ (bits >> 31 & 0x7FFFFFFF)  # the bits of negative floats count downwards
    return (ascending.view(np.uint32) ^ np.uint32(1 << 31)).data


def _joints(pieces: Iterable[bytes]) -> set[tuple[str, str]]:
    """What stands before and after each "▁" that is not the first character of its piece (Gemma 3 has one: ">▁</")."""
    found: set[tuple[str, str]] = set()
    for piece in pieces:
        if piece.rfind(_SPACE_BYTES) > 0:
            text = piece.decode("utf-8", "replace")  # a piece that is no UTF-8 is never met in a text
            found.update((text[:at], text[at + 1 :]) for at in range(1, len(text)) if text[at] == SPACE)
            if len(found) > _MAX_JOINTS:
                break
    return found


def _word_pattern(joints: set[tuple[str, str]]) -> re.Pattern[str]:
    """Words that can be merged apart, because no piece reaches over the border between them.

    A word begins at each "▁", unless the text around it is that of a piece with this "▁" inside.
    """
    if len(joints) > _MAX_JOINTS:
        return re.compile(".+", re.DOTALL)
    inside = "|".join(f"(?<={re.escape(before)}){SPACE}(?={re.escape(after)})" for before, after in sorted(joints))
    joined = f"(?:(?:{inside})[^{SPACE}]*)*" if joints else ""
    return re.compile(f".[^{SPACE}]*{joined}", re.DOTALL)
