"""A small throw-away repository that looks enough like mogemma's to be released."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mogemma_release.repository import Repository

PROJECT = '[project]\nname = "{name}"\nversion = "{version}"\n'


def make_repository(root: Path) -> Repository:
    """A clone with one commit and nothing else."""
    for name in ("mogemma", "mogemma-bench", "mogemma-release"):
        project = root / "packages" / name / "pyproject.toml"
        project.parent.mkdir(parents=True)
        project.write_text(PROJECT.format(name=name, version="0.1.0"), encoding="utf-8")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "Ada")
    git(root, "config", "user.email", "ada@example.org")
    commit(root, "first")
    return Repository(root)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)
    return git(root, "rev-parse", "HEAD").strip()
