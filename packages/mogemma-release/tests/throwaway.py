"""A small throw-away repository that looks enough like mogemma's to be released."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mogemma_release.cli import main
from mogemma_release.measurements import NOISE, Baseline, noise_key
from mogemma_release.pages import write_pages
from mogemma_release.repository import Repository
from mogemma_release.runbook import BASELINES, Step

ROOT = Path(__file__).resolve().parents[3]
"""The real one."""

PROJECT = '[project]\nname = "{name}"\nversion = "{version}"\n'


def make_repository(root: Path, version: str = "0.1.0") -> Repository:
    """A clone with one commit: packages, changelog, the real baselines, and the pages written from them."""
    for name in ("mogemma", "mogemma-bench", "mogemma-release"):
        write(root / "packages" / name / "pyproject.toml", PROJECT.format(name=name, version=version))
    write(root / "pyproject.toml", _settings(version))
    write(root / ".gitignore", "/evidence/\n/build/\n")
    write(root / "CHANGELOG.md", (ROOT / "CHANGELOG.md").read_text() + "\n## 0.1.0 (2026-11-26)\n\n- It runs.\n")
    write(root / "changes" / "README.md", "Fragments.\n")
    for name in BASELINES.values():
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    write(root / NOISE, json.dumps(make_noise(root)))
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "Ada")
    git(root, "config", "user.email", "ada@example.org")
    write_pages(Repository(root))
    commit(root, "first")
    return Repository(root)


def add_remote(root: Path, folder: Path) -> Path:
    """An empty repository in a folder, as `origin`."""
    git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(folder))
    git(root, "remote", "add", "origin", str(folder))
    return folder


def make_noise(root: Path, spread: float = 0.01) -> dict[str, Any]:
    """Eight runs of each figure, of which two equal ones are about `spread` apart."""
    runs: dict[str, list[float]] = {}
    for name in BASELINES.values():
        baseline = Baseline.read(root / name)
        for figure in baseline.figures:
            values = {False: baseline.median(figure), True: baseline.share(figure)}
            for of_share, value in values.items():
                if value is not None:
                    runs[noise_key(figure, of_share=of_share)] = [
                        value * (1 + spread * (i % 4 - 1.5)) for i in range(8)
                    ]
    return {"environment": {"threads": 2, "processor": "a processor", "load_average": 0.0}, "runs": runs}


def release(repository: Repository, *arguments: str) -> tuple[int, str, str]:
    """Run a command of `release` on it: exit status, standard output, standard error."""
    result = CliRunner().invoke(main, [*arguments, "--root", str(repository.root)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def make_step(name: str, command: str, **fields: Any) -> Step:
    return Step(name, "What", "Why", command, "proof", "undo", **fields)


def change_baseline(file: Path, factors: Mapping[str, float], **environment: object) -> None:
    """Multiply figures of a baseline file, samples and all, as if they had been measured so."""
    value = json.loads(file.read_text())
    for path, factor in factors.items():
        *keys, last = path.split(".")
        group = value
        for key in keys:
            group = group[key]
        found = group[last]
        group[last] = (
            {key: [x * factor for x in y] if isinstance(y, list) else y * factor for key, y in found.items()}
            if isinstance(found, dict)
            else found * factor
        )
    value["environment"].update(environment)
    file.write_text(json.dumps(value, indent=1) + "\n")


def set_version(root: Path, version: str) -> None:
    for project in root.glob("packages/*/pyproject.toml"):
        project.write_text(PROJECT.format(name=project.parent.name, version=version))
    write(root / "pyproject.toml", _settings(version))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)
    return git(root, "rev-parse", "HEAD").strip()


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file that git would see, to show that nothing changed."""
    names: Sequence[str] = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    return {name: (root / name).read_bytes() for name in names}


def _settings(version: str) -> str:
    """The real repository's settings of towncrier and bump-my-version, for another version."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    current = next(line for line in text.splitlines() if line.startswith("current_version = "))
    own = text[text.index("[tool.towncrier]") :].replace(current, f'current_version = "{version}"')
    return own.replace('pre_commit_hooks = ["uv lock"]\n', "")
