"""Which template a model's conversations are written with: by its family, by what its files show, by what the caller says."""

from __future__ import annotations

import pytest
from vocabularies import FUNCTION_GEMMA_MARKERS, GEMMA_4_MARKERS, TINY, tiny_with

from mogemma.errors import PromptError
from mogemma.templates import BUILT_IN
from mogemma.templates.choose import choose_template
from mogemma.templates.file_template import FileTemplate
from mogemma.templates.function_gemma import FUNCTION_GEMMA
from mogemma.templates.gemma4 import GEMMA_4
from mogemma.tokenizer import Tokenizer

TURNS = "{% for m in messages %}<start_of_turn>{{ m.role }}{% endfor %}"


@pytest.fixture(scope="module")
def tiny() -> Tokenizer:
    return Tokenizer.from_folder(TINY)


class TestByTheFamily:
    @pytest.mark.parametrize("family", BUILT_IN)
    def test_what_is_built_in_needs_no_file(self, tiny: Tokenizer, family: str) -> None:
        for choice in (None, "builtin"):
            assert choose_template(family, choice, None, tiny, "m") is BUILT_IN[family]

    def test_a_template_in_the_file_that_says_the_same_is_not_run(self, tiny: Tokenizer) -> None:
        assert choose_template("gemma3", None, TURNS, tiny, "m") is BUILT_IN["gemma3"]

    def test_of_an_unknown_family_it_is_the_files(self, tiny: Tokenizer) -> None:
        template = choose_template("gemma9", None, TURNS, tiny, "m")
        assert isinstance(template, FileTemplate)
        assert template.source == TURNS

    @pytest.mark.parametrize("choice", [None, "builtin", "file"])
    def test_where_there_is_none_it_is_said(self, tiny: Tokenizer, choice: str | None) -> None:
        with pytest.raises(PromptError, match="chat_template"):
            choose_template("gemma9", choice, None, tiny, "m")


class TestByWhatTheFilesShow:
    def test_function_gemma_is_a_gemma_3_with_tokens_for_tools(self, tiny: Tokenizer) -> None:
        declares = TURNS + "<start_function_declaration>"
        assert choose_template("gemma3", None, declares, tiny, "m") is FUNCTION_GEMMA
        assert choose_template("gemma3", None, None, tiny_with(FUNCTION_GEMMA_MARKERS), "m") is FUNCTION_GEMMA
        assert choose_template("gemma2", None, None, tiny_with(FUNCTION_GEMMA_MARKERS), "m") is BUILT_IN["gemma2"]

    def test_gemma_4_comes_in_variants(self) -> None:
        tokenizer = tiny_with(GEMMA_4_MARKERS)
        larger = choose_template("gemma4", None, "<|turn><|think|>\\n<|channel>thought\\n<channel|>", tokenizer, "m")
        assert larger == GEMMA_4.like("<|think|>\\n<|channel>thought\\n<channel|>") != GEMMA_4

    @pytest.mark.parametrize(
        "source", ["<|im_start|>{{ messages }}", TURNS + "{{ m.source_lang_code }}", TURNS + "{{ guideline }}"]
    )
    def test_a_model_that_was_trained_otherwise_gets_its_own(self, tiny: Tokenizer, source: str) -> None:
        assert isinstance(choose_template("gemma3", None, source, tiny, "m"), FileTemplate)
        assert choose_template("gemma3", "builtin", source, tiny, "m") is BUILT_IN["gemma3"]


class TestByTheCaller:
    def test_the_files_own(self, tiny: Tokenizer) -> None:
        template = choose_template("gemma3", "file", TURNS, tiny, "m.gguf")
        assert isinstance(template, FileTemplate)
        assert (template.source, template.origin) == (TURNS, "m.gguf")

    def test_one_of_his_own(self, tiny: Tokenizer) -> None:
        template = choose_template("gemma3", "{{ mine }}", TURNS, tiny, "m.gguf")
        assert isinstance(template, FileTemplate)
        assert template.source == "{{ mine }}"

    def test_answers_are_divided_by_the_markers_that_the_vocabulary_has(self, tiny: Tokenizer) -> None:
        markers = {(): BUILT_IN["gemma3"], GEMMA_4_MARKERS: GEMMA_4, FUNCTION_GEMMA_MARKERS: FUNCTION_GEMMA}
        for pieces, like in markers.items():
            template = choose_template("gemma3", TURNS, None, tiny_with(pieces) if pieces else tiny, "m")
            assert template.answer == like.answer
