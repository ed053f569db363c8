from __future__ import annotations

from hub_fixtures import home, hub  # noqa: F401  fixtures are found by their names
