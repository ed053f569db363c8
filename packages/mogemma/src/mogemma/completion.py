"""What a generation gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls"]
"""The model or a stop string ended the text; max_tokens or the end of the context did; or the model waits for its tools."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants to have called.

    Attributes:
        id: Tells the calls of one answer apart: `call_0`, `call_1` and so on.
        name: Empty if it cannot be read.
        arguments: By name; empty if they cannot be read.
        text: What the model wrote, without the control tokens around it.
        error: Why it cannot be read, or is no tool that was offered; None for a sound call.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    text: str
    error: str | None = None

    @property
    def is_valid(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was in the model's own distribution over its vocabulary: at temperature 1, before bias and penalties.

    Attributes:
        text: The token alone; bytes that are no whole character show as U+FFFD.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens in its place, likeliest first, as many as were asked for.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted.

    Attributes:
        cached_tokens: Those of the prompt that were in the KV cache already.
        completion_tokens: The length of `Completion.token_ids`.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went; what the reader of a stream did between two tokens is not in it.

    Attributes:
        prefill_tokens: Those of the prompt that were computed.
        prefill_seconds: Spent on them.
        decode_tokens: Forward passes of one token: one fewer than tokens chosen, since the last is never read back.
        decode_seconds: Spent on them, and on choosing the tokens and writing them as text.
        time_to_first_token: Seconds from the start until the first token was chosen.
    """

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    time_to_first_token: float = 0.0

    @property
    def prefill_tokens_per_second(self) -> float:
        """0 where nothing was computed."""
        return self.prefill_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """0 where nothing was computed."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation; `str()` of it is its text.

    Attributes:
        text: Without what ended it, and without thoughts and calls of tools.
        token_ids: All tokens of the answer, without the one that ended it; with a stop string, also the tokens that wrote it.
        finish_reason: "stop", "length" or "tool_calls".
        stopped_by: The stop string that ended it, if one did.
        seed: What the same call needs to give the same text again.
        logprobs: One for each of `token_ids`, if they were asked for.
        reasoning: What the model thought before it answered; None if it did not.
        tool_calls: Those that the model wants, among them those that cannot be read: see `ToolCall.error`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    seed: int
    stopped_by: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def message(self) -> dict[str, Any]:
        """This answer as a message of a conversation that goes on. Calls that are not valid are left out."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning is not None:
            message["reasoning"] = self.reasoning
        calls = [call for call in self.tool_calls if call.is_valid]
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return message

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """A piece of an answer as it comes: `SyncGemmaModel.chat_events`.

    Attributes:
        kind: "content" and "reasoning" bring some `text`, "tool_call" a whole `tool_call`; "end", the last, the `completion`.
    """

    kind: Literal["content", "reasoning", "tool_call", "end"]
    text: str = ""
    tool_call: ToolCall | None = None
    completion: Completion | None = None
