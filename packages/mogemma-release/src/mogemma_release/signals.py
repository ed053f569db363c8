"""Signals that ask a program to end take the way of Ctrl-C, so that whatever it has started is ended with it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from .errors import ReleaseError

_ASKS = (signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StoppedError(ReleaseError):
    """The sentence for a person whose command was interrupted, and its exit status, as a shell gives it."""

    def __init__(self, sentence: str, stop: KeyboardInterrupt) -> None:
        super().__init__(sentence)
        self.exit_status = 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Leave the block by Stopped when SIGTERM or SIGHUP comes."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in _ASKS:  # one stop is enough: a closed terminal sends several, and tidying up must not end half-way
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    with _handled(_ASKS, stop):
        yield


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Let signals wait, at most for the block; calling what it is given lets them come before its end."""
    came: list[int] = []
    with _handled((signal.SIGINT, *_ASKS), lambda number, _: came.append(number)) as restore:

        def let_come() -> None:
            restore()
            if came:
                signal.raise_signal(came.pop(0))

        try:
            yield let_come
        finally:
            let_come()


@contextmanager
def _handled(numbers: Sequence[int], handler: Handler) -> Iterator[Callable[[], None]]:
    """Handle signals in the block, or until what it is given is called; but none that is ignored: `nohup` wants it so."""
    is_main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    before = {number: signal.getsignal(number) for number in numbers if is_main}
    ours = {number: was for number, was in before.items() if was not in {None, signal.SIG_IGN}}

    def restore() -> None:
        while ours:
            number, was = ours.popitem()
            signal.signal(number, was)

    try:
        for number in tuple(ours):
            signal.signal(number, handler)
        yield restore
    finally:
        restore()
