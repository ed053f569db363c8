"""What goes wrong in a release: a sentence that says what to do, and no half-written file."""

from __future__ import annotations


class ReleaseError(Exception):
    """A step refuses or fails; the message is for the person who releases."""


class NeedsOutsideError(ReleaseError):
    """A step needs the network or GitHub, and it is not there; nothing was changed."""
