"""The scripts that refuse to publish, run as GitHub runs them, with a `gh` that answers for GitHub."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from mogemma_release.matrix import PLATFORMS, WORKFLOW
from mogemma_release.workflows.publishing import RELEASE, SOURCE
from mogemma_release.workflows.workflow import Workflow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these jobs run on Linux")

REPOSITORY = Path(__file__).resolve().parents[3]


def run_step(name: str, folder: Path, job: str = RELEASE, **variables: str) -> subprocess.CompletedProcess[str]:
    steps = Workflow.read(REPOSITORY / WORKFLOW).jobs[job]["steps"]
    (step,) = (step for step in steps if step.get("name", "").startswith(name))
    (folder / "script").write_text(step["run"], encoding="utf-8")
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(folder / "script")],
        cwd=folder / step.get("working-directory", "."),
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(folder / "summary"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """What the job finds after its downloads: five files, and the checksums that came with each."""
    dist = tmp_path / "dist"
    dist.mkdir()
    (tmp_path / "release").mkdir()
    names = {platform.name: f"mogemma-1.0.0-py3-none-{platform.wheel_tag}.whl" for platform in PLATFORMS}
    for job, name in {"source": "mogemma-1.0.0.tar.gz", **names}.items():
        (dist / name).write_text(f"of {job}", encoding="utf-8")
        (dist / f"SHA256SUMS-{job}").write_text(f"{digest(dist / name)}  {name}\n", encoding="utf-8")
    return tmp_path


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_whole_release_passes_and_leaves_what_is_uploaded(artifacts: Path) -> None:
    done = run_step("Hold every file", artifacts)
    assert done.returncode == 0, done.stderr + done.stdout
    uploaded = sorted((artifacts / "dist").iterdir())
    assert [file.suffix for file in uploaded] == [".whl"] * 4 + [".gz"]
    sums = (artifacts / "release" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert sums == [f"{digest(file)}  {file.name}" for file in uploaded]
    assert (artifacts / "summary").read_text(encoding="utf-8").splitlines() == sums


def test_a_changed_byte_stops_it(artifacts: Path) -> None:
    (artifacts / "dist" / "mogemma-1.0.0.tar.gz").write_text("of somebody", encoding="utf-8")
    done = run_step("Hold every file", artifacts)
    assert done.returncode
    assert "mogemma-1.0.0.tar.gz: FAILED" in done.stdout


def test_a_file_without_a_checksum_stops_it(artifacts: Path) -> None:
    (artifacts / "dist" / "more.whl").touch()
    done = run_step("Hold every file", artifacts)
    assert done.returncode
    assert "more.whl" in done.stdout


def test_a_lost_file_stops_it(artifacts: Path) -> None:
    (artifacts / "dist" / "mogemma-1.0.0.tar.gz").unlink()
    assert run_step("Hold every file", artifacts).returncode


def test_four_wheels_or_nothing(artifacts: Path) -> None:
    platform = PLATFORMS[-1]
    (artifacts / "dist" / f"mogemma-1.0.0-py3-none-{platform.wheel_tag}.whl").unlink()
    (artifacts / "dist" / f"SHA256SUMS-{platform.name}").unlink()
    done = run_step("Hold every file", artifacts)
    assert done.returncode
    assert "There are 1 sdists and 3 wheels, not 1 and 4." in done.stdout


def answer(folder: Path, asked: str, answered: str) -> None:
    """A `gh` that answers one question, a pattern of the shell, and fails at every other."""
    program = folder / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in {asked}) {answered} ;; *) exit 1 ;; esac\n', encoding="utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("answered", "status", "said"),
    [
        ("echo success", 0, ""),
        ("echo failure", 1, "::error::ci.yml has not passed on abc."),
        ("echo", 1, "::error::ci.yml has not passed on abc."),
        ("echo cannot >&2; exit 4", 4, ""),
    ],
    ids=["passed", "not passed", "never run or running", "gh fails"],
)
def test_a_commit_that_has_not_passed_is_refused(tmp_path: Path, answered: str, status: int, said: str) -> None:
    answer(
        tmp_path, '"run list --workflow ci.yml --commit abc --branch main --event push --limit 1 --json "*', answered
    )
    done = run_step("Refuse a commit", tmp_path, SOURCE, GITHUB_SHA="abc")
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(said)
    assert bool(done.stdout) is bool(said)


TRIED = '"run list --workflow publish.yml --commit abc --branch v1.0.0 --event push "*" != 7"*'


@pytest.mark.parametrize(
    ("attempt", "n_runs", "status"),
    [("1", 0, 0), ("2", 0, 1), ("1", 1, 1)],
    ids=["the first try", "a run started again", "a tag pushed again"],
)
def test_only_the_first_try_on_a_commit_goes_on(tmp_path: Path, attempt: str, n_runs: int, status: int) -> None:
    answer(tmp_path, TRIED, f"echo {n_runs}")
    about = {"GITHUB_SHA": "abc", "GITHUB_REF_NAME": "v1.0.0", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": attempt}
    done = run_step("Refuse a second try", tmp_path, **about)
    assert done.returncode == status, done.stderr
    assert ("never retried on the same commit" in done.stdout) is bool(status)
