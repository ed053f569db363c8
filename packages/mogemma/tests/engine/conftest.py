"""An engine that tests of its border share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from models import make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mogemma._native import Engine


@pytest.fixture
def engine(level: str) -> Iterator[Engine]:
    made = make_engine(level=level)
    yield made
    made.close()
