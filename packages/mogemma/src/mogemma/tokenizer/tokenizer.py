"""String to token ids and back, exactly as SentencePiece does it for Gemma.

The vocabulary is read when the first text comes in, so a model that is given ids only never pays for it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from ..errors import TokenizerError
from .bpe import SPACE, BytePairEncoder
from .literals import longest_of
from .pieces import Pieces
from .vocabulary import PieceType, Vocabulary, byte_value

if TYPE_CHECKING:
    import os
    import re

_SPACE_BYTES = SPACE.encode()


class Tokenizer:
    """Encodes text as Gemma was trained to read it, and decodes what it writes.

    Turn markers and other control tokens inside a text stay text, unless `parse_special=True`.
    """

    def __init__(self, source: Vocabulary | Callable[[], Vocabulary]) -> None:
        """`source` is the vocabulary, or gives it when it is first needed; its errors then come from that use."""
        self._source = source

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """The tokenizer in the `tokenizer.ggml.*` keys of a GGUF file, which must still be open at the first use."""
        from .gguf import read_gguf_vocabulary  # noqa: PLC0415  each reader is imported where it is used

        return cls(lambda: read_gguf_vocabulary(metadata))

    @classmethod
    def from_folder(cls, path: str | os.PathLike[str], *, add_eos: bool | None = None) -> Tokenizer:
        """The tokenizer.model or tokenizer.json of a model folder.

        Args:
            add_eos: Whether the model expects EOS behind a text, as embedding models do; None asks the files.
        """
        from .folder import read_folder_vocabulary  # noqa: PLC0415  as above

        return cls(lambda: read_folder_vocabulary(Path(path), add_eos=add_eos))

    @classmethod
    def without_texts(cls, n_tokens: int) -> Tokenizer:
        """So many tokens of which none adds anything to a text: for a model that token ids go into and come out of."""
        nowhere = np.zeros(n_tokens, np.int64)
        scores, types = np.zeros(n_tokens, np.float32), np.full(n_tokens, PieceType.CONTROL, np.int32)
        return cls(Vocabulary(Pieces(b"", nowhere, nowhere), scores, types, add_bos=False))

    def of_model(self, n_tokens: int, model: object) -> Tokenizer:
        """The same for a model of so many tokens: its first use is a TokenizerError if it is made for another."""

        def checked() -> Vocabulary:
            vocabulary = self._vocabulary
            vocabulary.check_fits(n_tokens, model)
            return vocabulary

        return Tokenizer(checked)

    @property
    def vocab_size(self) -> int:
        """Number of pieces; a model may have more rows than that (Gemma 3 4B: 64 more)."""
        return len(self._vocabulary.pieces)

    @property
    def bos_id(self) -> int | None:
        return self._vocabulary.bos_id

    @property
    def eos_id(self) -> int | None:
        """What the file calls end of sequence; an instruction-tuned model stops at `<end_of_turn>` besides."""
        return self._vocabulary.eos_id

    @property
    def pad_id(self) -> int | None:
        return self._vocabulary.pad_id

    def encode(
        self, text: str, add_bos: bool = True, parse_special: bool = False, *, add_eos: bool | None = None
    ) -> list[int]:
        """Token ids of a text.

        Args:
            add_bos: Put BOS before the text as the model expects; never a second one where the text begins with it.
            parse_special: Read `<start_of_turn>`, `<bos>` and other control tokens in the text as such.
            add_eos: Put EOS behind the text. None does what the model expects: only embedding models do.

        Raises:
            TokenizerError: `text` is no str, has lone surrogates, or the model has no tokenizer.
        """
        text = _in_blocks(text)
        marks = self._all_marks if parse_special else self._user_defined
        return self._framed(_encode(text, marks, self._encoder_for(text)), add_bos, add_eos)

    def encode_segments(
        self, segments: Iterable[tuple[str, bool]], add_bos: bool = True, *, add_eos: bool | None = None
    ) -> list[int]:
        """Token ids of a rendered prompt: pairs of a text and whether it is a control token.

        Gives what `encode` of all texts joined would give with `parse_special=True`, except that control tokens are read
        only where the caller says so.

        Raises:
            TokenizerError: As `encode`; or the model has no such control token.
        """
        segments = [(_in_blocks(text), is_control) for text, is_control in segments]
        encoder = self._encoder_for("".join(text for text, _ in segments))
        ids: list[int] = []
        for is_control, run in groupby(segments, key=operator.itemgetter(1)):
            texts = [text for text, _ in run]
            if is_control:
                ids += map(self._control_id, texts)
            else:  # tokens may reach from one segment into the next
                ids += _encode("".join(texts), self._user_defined, encoder)
        return self._framed(ids, add_bos, add_eos)

    def split_control(self, text: str) -> list[tuple[str, bool]]:
        """A text divided at the control tokens in it: pairs as `encode_segments` takes them."""
        parts = enumerate(self._control.pattern.split(text))
        return [(part, index % 2 == 1) for index, part in parts if part]

    def control_openings(self) -> frozenset[str]:
        """The signs that control tokens begin with."""
        return frozenset(piece[0] for piece in self._control.ids if piece)

    def special_pieces(self) -> dict[str, str]:
        """BOS, EOS and padding as they are written, by the names that templates have for them."""
        ids = {"bos_token": self.bos_id, "eos_token": self.eos_id, "pad_token": self.pad_id}
        return {name: self.piece_of(token) for name, token in ids.items() if token is not None}

    def count(self, text: str, add_bos: bool = True, parse_special: bool = False) -> int:
        """How many tokens `encode` gives for the text, BOS included."""
        return len(self.encode(text, add_bos, parse_special))

    def decode(self, ids: Iterable[SupportsIndex], skip_special: bool = True) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD, and a leading space stays.

        Args:
            skip_special: Leave out BOS, EOS, turn markers and other control tokens.

        Raises:
            TokenizerError: One of them is no id of this vocabulary.
        """
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise TokenizerError(f"decode takes a list of token ids, not {type(ids).__name__}.")
        return b"".join(self.token_bytes(token, skip_special) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: SupportsIndex, skip_special: bool = True) -> bytes:
        """The UTF-8 that one token adds to a text; it may begin or end inside a character.

        Raises:
            TokenizerError: It is no id of this vocabulary.
        """
        token = self._checked_id(token_id)
        piece = self._vocabulary.pieces[token]
        kind = self._types[token]
        if kind == PieceType.BYTE:
            return bytes([byte_value(piece)])
        if kind in (PieceType.CONTROL, PieceType.UNKNOWN):
            return b"" if skip_special else piece
        return piece.replace(_SPACE_BYTES, b" ")

    def id_of(self, piece: str) -> int | None:
        """The id of a piece, such as `<end_of_turn>` or `▁the`; None where the vocabulary has no such piece."""
        piece = _in_blocks(piece)
        for ids in (self._all_marks.ids, self._byte_pieces):
            if piece in ids:
                return ids[piece]
        return self._encoder_for(piece).piece_id(piece)

    def piece_of(self, token_id: SupportsIndex) -> str:
        """A piece as it stands in the vocabulary.

        Raises:
            TokenizerError: It is no id of this vocabulary.
        """
        return self._vocabulary.pieces[self._checked_id(token_id)].decode("utf-8", "replace")

    def _encoder_for(self, text: str) -> BytePairEncoder:
        """An encoder that is prepared for the text. Two threads that come first may each make one; the last stays."""
        encoder = self._encoder
        encoder.prepare(text)
        return encoder

    def _framed(self, ids: list[int], add_bos: bool, add_eos: bool | None) -> list[int]:
        vocabulary = self._vocabulary
        if add_bos and vocabulary.add_bos and vocabulary.bos_id is not None and ids[:1] != [vocabulary.bos_id]:
            ids.insert(0, vocabulary.bos_id)
        if add_eos is None:
            add_eos = add_bos and vocabulary.add_eos
        if add_eos and vocabulary.eos_id is not None and ids[-1:] != [vocabulary.eos_id]:
            ids.append(vocabulary.eos_id)
        return ids

    def _control_id(self, piece: str) -> int:
        token = self._all_marks.ids.get(piece)
        if token is None:
            raise TokenizerError(
                f"This model's vocabulary has no {piece}, so it cannot take messages in this turn format. "
                "Give it plain text instead, or use a model made for that format."
            )
        return token

    def _checked_id(self, token_id: SupportsIndex) -> int:
        if type(token_id) is not int:
            token_id = _whole_number(token_id)
        if not 0 <= token_id < len(self._types):
            raise TokenizerError(f"There is no token {token_id}: this vocabulary's ids are 0 to {self.vocab_size - 1}.")
        return token_id

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return self._source() if callable(self._source) else self._source

    @cached_property
    def _types(self) -> bytes:
        return self._vocabulary.types.astype(np.uint8).tobytes()

    @cached_property
    def _encoder(self) -> BytePairEncoder:
        return BytePairEncoder(self._vocabulary)

    @cached_property
    def _user_defined(self) -> _Marks:
        return _Marks(self._vocabulary, PieceType.USER_DEFINED)

    @cached_property
    def _all_marks(self) -> _Marks:
        return _Marks(self._vocabulary, PieceType.USER_DEFINED, PieceType.CONTROL, PieceType.UNKNOWN)

    @cached_property
    def _control(self) -> _Marks:
        return _Marks(self._vocabulary, PieceType.CONTROL, PieceType.UNKNOWN)

    @cached_property
    def _byte_pieces(self) -> dict[str, int]:
        return _as_text(self._vocabulary.of_type(PieceType.BYTE))


class _Marks:
    """Pieces that are cut out of a text before the rest is merged."""

    def __init__(self, vocabulary: Vocabulary, *types: PieceType) -> None:
        self.ids = _as_text(vocabulary.of_type(*types))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds them; made only when a text is searched, for with the control tokens it takes 50 ms."""
        return longest_of(self.ids)


def _whole_number(number: SupportsIndex) -> int:
    if not isinstance(number, (bool, np.bool_)):
        with suppress(TypeError):
            return operator.index(number)
    raise TokenizerError(f"A token id is a whole number, not {number!r:.40}.")


def _encode(text: str, marks: _Marks, encoder: BytePairEncoder) -> list[int]:
    ids: list[int] = []
    for index, part in enumerate(marks.pattern.split(text)):
        if index % 2:
            ids.append(marks.ids[part])
        elif part:
            ids += encoder.encode(part)
    return ids


def _as_text(ids: dict[bytes, int]) -> dict[str, int]:
    """The pieces as they stand in a text whose spaces are "▁": GGUF stores runs of spaces as spaces, others as "▁"."""
    return {piece.decode("utf-8", "surrogateescape").replace(" ", SPACE): token for piece, token in ids.items()}


def _in_blocks(text: object) -> str:
    """A text with its spaces written as "▁", as all pieces are.

    Raises:
        TokenizerError: It is no str, or has lone surrogates.
    """
    if not isinstance(text, str):
        raise TokenizerError(f"Text must be a str, not {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"The text has a lone surrogate, U+{ord(text[error.start]):04X}, at position {error.start}: it is no valid Unicode. "
            'Decode its source with errors="replace".'
        ) from None
    return text.replace(" ", SPACE)
