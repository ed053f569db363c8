"""CHANGELOG.md: sections of versions, and the fragments in changes/ that towncrier makes the next one of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .errors import ReleaseError
from .repository import Repository

CHANGELOG = "CHANGELOG.md"
FRAGMENTS = "changes"


def fragments(repository: Repository) -> list[Path]:
    """The lines that wait for the next version."""
    return sorted(file for file in (repository.root / FRAGMENTS).glob("*.*.md") if file.is_file())


def section(repository: Repository, version: str) -> str | None:
    """What the changelog says of a version, without its heading; None when it says nothing."""
    match = _section(_read(repository), version)
    return match["body"].strip() if match else None


def draft(repository: Repository, version: str) -> str:
    """What the fragments would make of a version, without its heading.

    Raises:
        ReleaseError: towncrier refuses.
    """
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", version]
    done = subprocess.run(command, cwd=repository.root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"towncrier cannot write the notes: {done.stderr.strip() or done.stdout.strip()}")
    match = _section(done.stdout, version)
    return match["body"].strip() if match else ""


def deprecate(repository: Repository, version: str, reason: str, successor: str) -> str:
    """The changelog with a version's section saying that it is deprecated.

    Raises:
        ReleaseError: There is no such section, or it says so already.
    """
    text = _read(repository)
    match = _section(text, version)
    if not match:
        raise ReleaseError(f"{CHANGELOG} has no section for {version}: nothing was changed.")
    if deprecation_of(match["body"]):
        raise ReleaseError(f"{CHANGELOG} says already that {version} is deprecated: nothing was changed.")
    note = f"> **Deprecated:** {reason} Use {successor} or newer.\n\n"
    at = match.start("body")
    return text[:at] + note + text[at:].lstrip("\n")


def deprecation_of(body: str) -> str | None:
    """The sentence of a section that says why its version should not be used."""
    match = re.search(r"^> \*\*Deprecated:\*\* (.+)$", body, re.MULTILINE)
    return match[1] if match else None


def _read(repository: Repository) -> str:
    return (repository.root / CHANGELOG).read_text(encoding="utf-8")


def _section(text: str, version: str) -> re.Match[str] | None:
    heading = rf"^## {re.escape(version)}(?: \([\d-]+\))?\n\n*"
    return re.search(rf"{heading}(?P<body>.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
