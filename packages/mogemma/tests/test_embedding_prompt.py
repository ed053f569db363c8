"""The words before a text that is embedded: as in EmbeddingGemma's own config_sentence_transformers.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mogemma.embedding_prompt import TASKS, with_task
from mogemma.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("task", "prompt"),
    [
        ("query", "task: search result | query: Why?"),
        ("question answering", "task: question answering | query: Why?"),
        ("code retrieval", "task: code retrieval | query: Why?"),
        ("document", "title: none | text: Why?"),
        (None, "Why?"),
    ],
)
def test_a_task_has_its_words(task: str | None, prompt: str) -> None:
    assert with_task("Why?", task) == prompt


def test_a_document_may_have_a_title() -> None:
    assert with_task("Once upon a time", "document", title="A tale") == "title: A tale | text: Once upon a time"


def test_only_a_document_has_a_title() -> None:
    with pytest.raises(ConfigError, match="title belongs to a document"):
        with_task("Why?", "query", title="A tale")


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no task 'search'.*document, query, .*code retrieval"):
        with_task("Why?", "search")


def test_the_prompts_are_those_of_the_model(embeddinggemma_path: Path) -> None:
    config = json.loads((embeddinggemma_path / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    ours = {with_task("", task) for task in ("document", *TASKS)}
    assert with_task("", "query") == config["prompts"]["query"]
    assert with_task("", "document") == config["prompts"]["document"]
    assert set(config["prompts"].values()) - ours == {"task: summarization | query: "}
