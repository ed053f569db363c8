"""What ends a bench without a result."""

from __future__ import annotations


class BenchError(Exception):
    """Nothing was measured; the message says why and what to do about it."""


class OptionError(BenchError):
    """An option asks for what this model or machine does not offer."""
