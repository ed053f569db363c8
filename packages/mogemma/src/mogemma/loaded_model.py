"""What every loaded model is: an open checkpoint, the engine over it, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .errors import ModelClosedError
from .info import ModelInfo, describe
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from .checkpoint import Checkpoint
    from .session import Runner

Prompt: TypeAlias = "str | Sequence[int]"
"""A text, or token ids as they are: nothing is added to ids, not even BOS."""

Progress: TypeAlias = "Callable[[int, int], None]"
"""Called with what is done and what there is in all."""


class LoadedModel:
    """An open checkpoint, the engine over it and its tokenizer."""

    def __init__(self, checkpoint: Checkpoint, runner: Runner) -> None:
        self._checkpoint = checkpoint
        self._runner = runner
        self._tokenizer = _tokenizer_of(checkpoint, runner).of_model(runner.spec.vocab_size, checkpoint.path)
        self._is_open = True

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back. A model without one still runs on ids; it says so when text comes in."""
        self.check_open()
        return self._tokenizer

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it costs at this moment."""
        self.check_open()
        return describe(self._checkpoint, self._runner)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as this model would read it, BOS included."""
        return self.tokenizer.count(text)

    def close(self) -> None:
        """Wait for running calls, then give all memory back. Closing twice is harmless; any other use is an error."""
        self._is_open = False
        self._runner.close()
        self._checkpoint.close()

    def check_open(self) -> None:
        """Raise ModelClosedError once the model was closed."""
        if not self._is_open:
            raise ModelClosedError("This model was closed. Load it again.")
        self._runner.engine.handle.check_process()

    def _ids(self, text: Prompt) -> list[int]:
        self.check_open()
        return self._tokenizer.encode(text) if isinstance(text, str) else self._runner.checked_ids(text).tolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _tokenizer_of(checkpoint: Checkpoint, runner: Runner) -> Tokenizer:
    if checkpoint.kind == "gguf":
        return Tokenizer.from_gguf(checkpoint.metadata)
    path = Path(checkpoint.path)
    folder = path if path.is_dir() else path.parent
    return Tokenizer.from_folder(folder, add_eos=None if runner.spec.is_causal else True)
