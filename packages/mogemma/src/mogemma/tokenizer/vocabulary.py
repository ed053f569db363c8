"""The pieces of text a model knows, whichever file they come from: GGUF, tokenizer.model or tokenizer.json."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ModelFormatError, TokenizerError

if TYPE_CHECKING:
    import numpy.typing as npt

    from .pieces import Pieces

_MAX_PIECE_BYTES = 1024  # Gemma 3's longest has 93
_LEAST_PART = 0.98
"""Of a model's tokens that its vocabulary has: models are padded by up to 0.1 %, Gemma 2's has 97.7 % of Gemma 3's."""

_BYTE_PIECE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
_TEXT_AS_CONTROL = re.compile(
    rb"<mask>|<unused\d+>|<start_of_turn>|<end_of_turn>|<escape>"
    rb"|<(?:start|end)_function_(?:declaration|call|response)>"  # FunctionGemma
    rb"|<\|(?:turn|tool|tool_call|tool_response|channel)>|<(?:turn|tool|tool_call|tool_response|channel)\|>"  # Gemma 4
    rb'|<\|think\|>|<\|"\|>'
)


class PieceType(IntEnum):
    """What a piece is for; the numbers are those of SentencePiece and of GGUF."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4  # cut out of the text before anything is merged
    UNUSED = 5
    BYTE = 6


class PieceTable(NamedTuple):
    """What a tokenizer file says of each piece, by token id; the first fields of `Vocabulary`."""

    pieces: Pieces
    scores: npt.NDArray[np.float32]
    types: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The pieces by id, and what the model expects around a text.

    Raises:
        ModelFormatError: The parts do not fit together.
    """

    pieces: Pieces
    scores: npt.NDArray[np.float32]  # the higher the earlier a piece is merged
    types: npt.NDArray[np.int32]  # PieceType of each
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    unk_id: int | None = None
    add_bos: bool = True
    add_eos: bool = False  # EmbeddingGemma only

    def __post_init__(self) -> None:
        n_pieces = len(self.pieces)
        if not n_pieces or self.scores.shape != (n_pieces,) or self.types.shape != (n_pieces,):
            raise ModelFormatError(
                f"The vocabulary has {n_pieces} pieces, {self.scores.size} scores and {self.types.size} types; "
                "there must be one of each per token. The file is damaged: fetch it again."
            )
        if (length := int(self.pieces.lengths.max())) > _MAX_PIECE_BYTES:
            raise ModelFormatError(
                f"The vocabulary has a piece of {length} bytes; at most {_MAX_PIECE_BYTES} are read. Fetch the file again."
            )
        if not np.isfinite(self.scores).all() or self.types.min() < 1 or self.types.max() > max(PieceType):
            raise ModelFormatError("The vocabulary has a score or a type that means nothing: fetch the file again.")
        for name in ("bos", "eos", "pad", "unk"):
            token = getattr(self, f"{name}_id")
            if token is not None and not 0 <= token < n_pieces:
                raise ModelFormatError(f"The vocabulary's {name} id is {token}, but its ids end at {n_pieces - 1}.")
        if (self.add_bos and self.bos_id is None) or (self.add_eos and self.eos_id is None):
            raise ModelFormatError("The vocabulary asks for BOS or EOS around a text, but does not say which id it is.")
        object.__setattr__(self, "types", _without_user_defined_turns(self.pieces, self.types))

    def check_fits(self, n_tokens: int, model: object) -> None:
        """Raise TokenizerError where this vocabulary is another model's than the one with so many tokens.

        A model may lack the last ones, as long as no text is made of them: Gemma 3 1B has no place for an image.
        """
        n_pieces = len(self.pieces)
        if (self.types[n_tokens:] == PieceType.NORMAL).any() or n_pieces < _LEAST_PART * n_tokens:
            raise TokenizerError(
                f"{model}: the tokenizer has {n_pieces} tokens, the model {n_tokens}: it is another model's. Get the "
                "tokenizer from where the weights come from, or pass token ids."
            )

    def of_type(self, *types: PieceType) -> dict[bytes, int]:
        """Piece to id of the given types; of two equal pieces the first counts."""
        return self.pieces.ids_by_text(np.flatnonzero(np.isin(self.types, types)))

    def normal_in(self, text: str) -> dict[bytes, int]:
        """Piece to id of the normal pieces that occur in a text, and some others."""
        is_wanted = self.pieces.may_occur_in(text.encode()) & (self.types == PieceType.NORMAL)
        return self.pieces.ids_by_text(np.flatnonzero(is_wanted))

    def byte_ids(self) -> list[int | None]:
        """The ids of <0x00> to <0xFF>."""
        ids: list[int | None] = [None] * 256
        for piece, token in self.of_type(PieceType.BYTE).items():
            ids[byte_value(piece)] = token
        return ids


def byte_value(piece: bytes) -> int:
    """The byte that a piece such as <0x0A> stands for."""
    match = _BYTE_PIECE.fullmatch(piece)
    if match is None:
        raise ModelFormatError(f"The vocabulary marks {piece!r} as a byte; a byte is written <0x00> to <0xFF>.")
    return int(match[1], 16)


def is_turn_or_reserved(piece: bytes) -> bool:
    """Whether a piece is a control token, although SentencePiece files call it user-defined.

    SentencePiece would read such a piece in any text. A user's text must not open a turn, so it is read only on demand,
    as in the published GGUF files.
    """
    return _TEXT_AS_CONTROL.fullmatch(piece) is not None


def _without_user_defined_turns(pieces: Pieces, types: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The types of pieces, with turn markers as control tokens: GGUF files of Gemma 4 call some of them user-defined."""
    user_defined = pieces.ids_by_text(np.flatnonzero(types == PieceType.USER_DEFINED))
    turns = [token for piece, token in user_defined.items() if piece[:1] == b"<" and is_turn_or_reserved(piece)]
    if not turns:
        return types
    corrected = types.copy()
    corrected[turns] = PieceType.CONTROL
    return corrected
