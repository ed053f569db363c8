"""Load: from a path to a model that is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..engine import Engine
from ..measure import now

AnyEngine = TypeVar("AnyEngine", bound=Engine)


def load(open_engine: Callable[[], AnyEngine]) -> tuple[AnyEngine, float]:
    """The engine, which the caller closes, and the seconds it took; once, because only the first time is a real one."""
    start = now()
    engine = open_engine()
    return engine, now() - start
