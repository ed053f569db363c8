"""Measures mogemma on real models."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("mogemma-bench")
