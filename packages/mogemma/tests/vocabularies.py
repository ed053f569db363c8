"""The tiny vocabulary with the markers of other families: what their tokenizers have, without their 260,000 other pieces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mogemma.templates import function_gemma, gemma4
from mogemma.tokenizer import Tokenizer
from mogemma.tokenizer.folder import read_folder_vocabulary
from mogemma.tokenizer.pieces import Pieces
from mogemma.tokenizer.vocabulary import PieceType, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mogemma.templates.compact import ToolMarkers

TINY = Path(__file__).parent / "data" / "tiny-tokenizer"


def _of(tools: ToolMarkers) -> tuple[str, ...]:
    return (*tools.declaration, *tools.call, *tools.response, tools.quote)


FUNCTION_GEMMA_MARKERS = _of(function_gemma.TOOLS)
GEMMA_4_MARKERS = (gemma4.TURN, gemma4.END_OF_TURN, gemma4.THINK, *gemma4.THOUGHT, *_of(gemma4.TOOLS))


def tiny_with(markers: Sequence[str], kind: PieceType = PieceType.CONTROL) -> Tokenizer:
    """The tiny tokenizer with these pieces behind its own, of ids 512 and so on."""
    tiny = read_folder_vocabulary(TINY)
    pieces = [tiny.pieces[token] for token in range(len(tiny.pieces))]
    return Tokenizer(
        Vocabulary(
            pieces=Pieces.of([*pieces, *(marker.encode() for marker in markers)]),
            scores=np.concatenate([tiny.scores, np.zeros(len(markers), np.float32)]),
            types=np.concatenate([tiny.types, np.full(len(markers), kind, np.int32)]),
            bos_id=tiny.bos_id,
            eos_id=tiny.eos_id,
            pad_id=tiny.pad_id,
            unk_id=tiny.unk_id,
        )
    )


def marked(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text whose markers are read as such, without BOS."""
    return tokenizer.encode(text, add_bos=False, parse_special=True)
