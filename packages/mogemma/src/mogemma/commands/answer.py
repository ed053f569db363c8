"""A generation as it is shown: a stream of text, or one JSON document at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .interrupt import interruptible
from .progress import Progress
from .streams import is_terminal, notice, think_aloud, write, write_json

if TYPE_CHECKING:
    from ..completion import Completion
    from ..generate import Generation
    from ..info import ModelInfo

Start = Callable[..., AbstractContextManager["Generation"]]
"""`model.generation` or `model.chat_generation` with everything but `cancel` and `on_progress`."""


def stream(start: Start, written: list[str] | None = None) -> Completion:
    """Write the text piece by piece, a newline behind it, and tell on standard error how it went and which tools it calls.

    Args:
        written: Gets every piece, so that it is known what stands there when Ctrl-C ends this.
    """
    pieces = [] if written is None else written
    is_thinking = False
    with interruptible() as cancel, Progress("Reading the prompt") as progress:
        try:
            with start(cancel=cancel, on_progress=progress) as generation:
                for step in generation:
                    progress.close()
                    think_aloud(step.reasoning)
                    is_thinking = is_thinking or bool(step.reasoning)
                    if step.text and is_thinking:
                        think_aloud("\n\n")
                        is_thinking = False
                    pieces.append(step.text)
                    write(step.text)
                completion = generation.finish()
        except BaseException:
            if any(pieces) and is_terminal(sys.stdout):
                write("\n")  # what comes next begins a line
            elif is_thinking:
                think_aloud("\n")
            raise
    write("\n")
    for call in completion.tool_calls:
        notice(f"(calls a tool: {call.text})" if call.is_valid else f"(calls a tool wrongly: {call.text} {call.error})")
    notice(summary(completion))
    return completion


def as_document(start: Start, info: Callable[[], ModelInfo]) -> None:
    """Write the finished generation, with all that is known of it and of the model, as JSON."""
    with (
        interruptible() as cancel,
        Progress("Generating") as progress,
        start(cancel=cancel, on_progress=progress) as generation,
    ):
        for _ in generation:
            progress(len(generation.token_ids), None)
        completion = generation.finish()
    write_json({**_fields(completion), "model": info().as_dict()})


def _fields(completion: Completion) -> dict[str, Any]:
    timings, usage = completion.timings, completion.usage
    return {
        **asdict(completion),
        "usage": {**asdict(usage), "total_tokens": usage.total_tokens},
        "timings": {
            **asdict(timings),
            "prefill_tokens_per_second": timings.prefill_tokens_per_second,
            "decode_tokens_per_second": timings.decode_tokens_per_second,
        },
    }


def summary(completion: Completion) -> str:
    """One line: tokens, speeds and the time to the first token."""
    timings, usage = completion.timings, completion.usage
    known = f" ({usage.cached_tokens} more were known)" if usage.cached_tokens else ""
    return (
        f"{_tokens(usage.completion_tokens)}; prefill {_tokens(timings.prefill_tokens)}{known} "
        f"at {timings.prefill_tokens_per_second:,.1f} tokens/s, decode {timings.decode_tokens_per_second:,.1f} tokens/s, "
        f"first token after {timings.time_to_first_token:.3f} s"
    )


def _tokens(n: int) -> str:
    return "1 token" if n == 1 else f"{n:,} tokens"
