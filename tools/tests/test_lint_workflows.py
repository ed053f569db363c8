"""The linters of the workflows do run, and each of them would stop a mistake that someone could make in one line."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from lint_workflows import main

REPOSITORY = Path(__file__).resolve().parents[2]
HAS_SHELLCHECK = Path(sysconfig.get_path("scripts"), "shellcheck").exists()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    workflows = Path(".github", "workflows")
    shutil.copytree(REPOSITORY / workflows, tmp_path / workflows)
    return tmp_path


def break_line(copy: Path, old: str, new: str) -> None:
    file = copy / ".github" / "workflows" / "publish.yml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_workflows_are_clean(copy: Path) -> None:
    assert main([str(copy)]) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("timeout-minutes", "timeout-minuts", "timeout-minuts", id="actionlint: a wrong key"),
        pytest.param("needs: [build-source]", "needs: [build]", "needs", id="actionlint: a job that is not there"),
        pytest.param("matrix.platform", "matrix.plattform", "plattform", id="actionlint: a value that is not there"),
        pytest.param(
            "os: macos-latest", "os: macos-lates", "macos-lates", id="actionlint: a machine that is not there"
        ),
        pytest.param(
            "rm SHA256SUMS-*",
            "rm $(ls SHA256SUMS-*)",
            "SC2046",
            id="actionlint: a careless script",
            marks=pytest.mark.skipif(not HAS_SHELLCHECK, reason="shellcheck has no wheel for this machine"),
        ),
        pytest.param(
            "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
            "v7",
            "unpinned-uses",
            id="zizmor: an action by its tag",
        ),
        pytest.param(
            'gh release edit "$GITHUB_REF_NAME"',
            'gh release edit "${{ github.ref_name }}"',
            "template-injection",
            id="zizmor: a name that becomes part of a script",
        ),
        pytest.param(
            "permissions: {}", "permissions: write-all", "excessive-permissions", id="zizmor: all permissions"
        ),
        pytest.param(
            "persist-credentials: false", "persist-credentials: true", "artipacked", id="zizmor: a token on disk"
        ),
        pytest.param(
            "enable-cache: false", "enable-cache: true", "cache-poisoning", id="zizmor: what strangers may have filled"
        ),
    ],
)
def test_one_broken_line_stops_it(copy: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, said: str) -> None:
    break_line(copy, old, new)
    assert main([str(copy)]) == 1
    assert said in "".join(capfd.readouterr())


def test_a_file_that_is_no_workflow_stops_it(copy: Path) -> None:
    (copy / ".github" / "workflows" / "more.yaml").write_text("jobs: [", encoding="utf-8")
    assert main([str(copy)]) == 1


def test_a_folder_without_workflows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer from the wrong folder would read as a clean one."""
    assert main([str(tmp_path)]) == 2
    assert "has no workflow" in capsys.readouterr().err
