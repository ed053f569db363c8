"""The words that EmbeddingGemma was trained to find before a text, by what the embedding is for.

A model's own config_sentence_transformers.json may name more of them; these are in both generations of the model
(ai.google.dev, "EmbeddingGemma model card", prompt instructions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

TASKS = {
    "query": "search result",
    "question answering": "question answering",
    "fact checking": "fact checking",
    "classification": "classification",
    "clustering": "clustering",
    "sentence similarity": "sentence similarity",
    "code retrieval": "code retrieval",
}
"""Task name to what the prompt says; `document` has a form of its own."""


def with_task(text: str, task: str | None, *, title: str | None = None, others: Iterable[str] = ()) -> str:
    """The text with the words for a task before it; without a task, as it is.

    Args:
        task: "document", or one of `TASKS`.
        title: Title of a document; None writes "none", as the model was trained.
        others: Names that the model's own files have, for the message.

    Raises:
        ConfigError: There is no such task, or a title is given for something else than a document.
    """
    if task == "document":
        return f"title: {title or 'none'} | text: {text}"
    if title is not None:
        raise ConfigError(
            f"A title belongs to a document; the task here is {task!r}. Leave it out, or use task='document'."
        )
    if task is None:
        return text
    if task not in TASKS:
        names = dict.fromkeys(["document", *TASKS, *sorted(others)])
        raise ConfigError(f"There is no task {task!r:.40}. The tasks are {', '.join(names)}.")
    return f"task: {TASKS[task]} | query: {text}"
