"""What several tests of the readers share."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextmanager
def _costs_little() -> Iterator[None]:
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        seconds = time.process_time() - start
        n_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 1
    assert n_bytes < 4 << 20


@pytest.fixture
def costs_little() -> Callable[[], AbstractContextManager[None]]:
    """`with costs_little():` fails when what is in it takes a second or 4 MiB."""
    return _costs_little
