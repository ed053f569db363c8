"""The release runbook of mogemma as a program."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("mogemma-release")
