"""Which template a model's conversations are written with.

Unless the caller says otherwise it is the one that is built in for the family, which needs nothing installed and runs
nothing from a stranger. The template in the file is read all the same, for what it says about the model:

- it declares tools as FunctionGemma does, or is a variant of Gemma 4's: the one built in is chosen and set accordingly
- it writes other turns, or needs what no message here has, as TranslateGemma's languages: then the file's is used
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ..errors import PromptError
from . import function_gemma
from .file_template import FileTemplate
from .function_gemma import FUNCTION_GEMMA
from .gemma4 import GEMMA_4
from .start_of_turn import GEMMA_1, GEMMA_2, GEMMA_3, GEMMA_3N
from .template import PLAIN, AnswerFormat, BuiltIn, ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable

BUILT_IN: Mapping[str, BuiltIn] = {
    "gemma1": GEMMA_1,
    "gemma2": GEMMA_2,
    "gemma3": GEMMA_3,
    "gemma3n": GEMMA_3N,
    "gemma4": GEMMA_4,
}
"""By `ModelSpec.family`."""

STOPS = tuple(dict.fromkeys((*GEMMA_3.stops, *GEMMA_4.stops, *FUNCTION_GEMMA.stops)))
"""Control tokens that end an answer. A vocabulary has those of its own family, so one list serves all."""

_OF_DERIVATIVES = ("source_lang_code", "guideline")
"""What the templates of TranslateGemma and ShieldGemma are given besides messages."""


class Pieces(Protocol):
    """What is needed of a tokenizer."""

    def id_of(self, piece: str) -> int | None: ...

    def split_control(self, text: str) -> Iterable[tuple[str, bool]]: ...

    def control_openings(self) -> frozenset[str]: ...

    def special_pieces(self) -> Mapping[str, str]: ...


def choose_template(
    family: str, choice: str | None, in_file: str | None, tokenizer: Pieces, origin: str
) -> ChatTemplate:
    """The template of a model.

    Args:
        family: `ModelSpec.family`.
        choice: "builtin", "file", the source of a template, or None for what the module's docstring says.
        in_file: The source that the model's files have, if they have one.
        origin: Where they lie, for messages.

    Raises:
        PromptError: There is no such template.
    """
    built_in = _built_in(family, in_file, tokenizer)
    if choice == "builtin":
        if built_in is None:
            raise PromptError(
                f'There is no chat template built in for {family}. Use chat_template="file", or give the path of one.'
            )
        return built_in
    if choice is not None and choice != "file":
        return _from_file(choice, "the caller", tokenizer)
    if in_file is not None and (choice == "file" or built_in is None or _is_foreign(in_file, built_in)):
        return _from_file(in_file, origin, tokenizer)
    if choice == "file":
        raise PromptError(f'{origin} has no chat template. Leave out chat_template="file", or give the path of one.')
    if built_in is None:
        raise PromptError(
            f"There is no chat template built in for {family}, and none in {origin}. Give the path of one with "
            "chat_template=..., or use generate()."
        )
    return built_in


def _built_in(family: str, in_file: str | None, tokenizer: Pieces) -> BuiltIn | None:
    template = BUILT_IN.get(family)
    if template is GEMMA_3 and _declares_functions(in_file, tokenizer):
        return FUNCTION_GEMMA
    if template is GEMMA_4 and in_file is not None:
        return GEMMA_4.like(in_file)
    return template


def _declares_functions(in_file: str | None, tokenizer: Pieces) -> bool:
    marker = function_gemma.TOOLS.declaration[0]
    return tokenizer.id_of(marker) is not None if in_file is None else marker in in_file


def _is_foreign(in_file: str, built_in: BuiltIn) -> bool:
    return built_in.turn not in in_file or any(name in in_file for name in _OF_DERIVATIVES)


def _from_file(source: str, origin: str, tokenizer: Pieces) -> FileTemplate:
    return FileTemplate(
        source=source,
        origin=origin,
        divide=tokenizer.split_control,
        openings=tokenizer.control_openings(),
        specials=tokenizer.special_pieces(),
        answer=_answer_format(tokenizer),
    )


def _answer_format(tokenizer: Pieces) -> AnswerFormat:
    """How answers are marked, by the control tokens that there are."""
    known = (GEMMA_4.answer, FUNCTION_GEMMA.answer)
    return next((one for one in known if one.call and tokenizer.id_of(one.call[0]) is not None), PLAIN)
