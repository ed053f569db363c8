"""ci.yml and publish.yml are what the runbook's definition says, and a line that is not is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mogemma_release.matrix import CI_JOBS, CI_WORKFLOW, JOBS, PLATFORMS, PYTHONS, WORKFLOW
from mogemma_release.workflows.__main__ import BUILD_CONFIGURATION, findings, main
from mogemma_release.workflows.publishing import IF_FINAL
from mogemma_release.workflows.workflow import Workflow

REPOSITORY = Path(__file__).resolve().parents[3]

CIBUILDWHEEL = """
[tool.cibuildwheel]
build = ["cp310-*", "cp311-*", "cp312-*", "cp313-*", "cp314-*"]
skip = [
    "*-musllinux*",     # Mojo needs glibc
    "*-manylinux_i686", # Mojo is 64-bit only
    "*-win*",           # Mojo has no compiler for it
    "pp*",              # nobody has tested it
]
test-command = "python -m mogemma.commands.self_check"
[tool.cibuildwheel.linux]
archs = ["x86_64", "aarch64"]
[tool.cibuildwheel.macos]
archs = ["x86_64", "arm64"]
test-skip = "*-macosx_x86_64"
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for file in (CI_WORKFLOW, WORKFLOW, BUILD_CONFIGURATION):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    return tmp_path


def break_line(copy: Path, file: str, old: str, new: str) -> None:
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_workflows_are_what_the_definition_says() -> None:
    assert list(findings(REPOSITORY)) == []


def test_jobs_platforms_and_pythons_are_the_definitions() -> None:
    """The same comparison, made here: the check itself must not be what lies."""
    ci, publish = Workflow.read(REPOSITORY / CI_WORKFLOW), Workflow.read(REPOSITORY / WORKFLOW)
    assert tuple(ci.jobs) == CI_JOBS
    assert tuple(publish.jobs) == JOBS
    assert tuple(ci.jobs["test"]["strategy"]["matrix"]["python"]) == PYTHONS
    assert tuple(publish.document["env"]["PYTHONS"].split()) == PYTHONS
    built = {entry["platform"]: entry["os"] for entry in publish.jobs["build-wheels"]["strategy"]["matrix"]["include"]}
    assert built == {platform.name: platform.runner for platform in PLATFORMS}
    assert set(ci.jobs["test"]["strategy"]["matrix"]["os"]) == set(built.values())


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (CI_WORKFLOW, '"3.10", "3.11"', '3.10, "3.11"', "tests run with Python (3.1,"),
        (CI_WORKFLOW, ', "3.14"]', "]", "tests run with Python"),
        (CI_WORKFLOW, "            3.13\n", "", "wheels are tried with Python"),
        (CI_WORKFLOW, "os: [ubuntu-latest, macos-latest]", "os: [ubuntu-latest]", "tests run on"),
        (CI_WORKFLOW, "  real-models:\n", "  models:\n", "the jobs are"),
        (CI_WORKFLOW, "make lint check", "make lint", "lint runs"),
        (CI_WORKFLOW, "run: make check-release", "run: make check", "check-release runs"),
        (CI_WORKFLOW, "== 'workflow_dispatch'", "== 'push'", "check-release runs if"),
        (CI_WORKFLOW, "    timeout-minutes: 20\n", "", "job lint has no timeout-minutes"),
        (CI_WORKFLOW, "retention-days: 1", "retention-days: 90", "retention-days 90, not 1"),
        (WORKFLOW, "permissions: {}", "permissions: read-all", "permissions of the whole workflow"),
        (WORKFLOW, "  build-source:\n", "  source:\n", "is not the workflow"),
        (WORKFLOW, "jobs:\n", "jobs:\n  more:\n    steps: []\n", "the jobs are"),
        (WORKFLOW, "3.13 3.14", "3.13", "the Pythons are"),
        (WORKFLOW, "arch: arm64\n", "arch: universal2\n", "wheels are built for"),
        (WORKFLOW, "qemu: true", "qemu: false", "wheels are built for"),
        (WORKFLOW, "needs: [build-source, build-wheels]", "needs: [build-source]", "publish-release waits for"),
        (WORKFLOW, "# No PyPy", "# PyPy", "does not say beside the platforms: No PyPy"),
        (WORKFLOW, "      id-token: write", "      packages: write\n      id-token: write", "publish-release may"),
        (WORKFLOW, "attestations: true", "attestations: false", "attestations are False"),
        (WORKFLOW, "          print-hash: true", "          skip-existing: true", "skip-existing"),
        (WORKFLOW, "${{ github.token }}", "${{ secrets.TOKEN }}", "needs a secret"),
        (WORKFLOW, " # v8.0.1", "", "actions/download-artifact has no comment that says its version"),
        (WORKFLOW, "cancel-in-progress: false", "cancel-in-progress: true", "a newer run ends this one"),
        (WORKFLOW, '"$GITHUB_RUN_ATTEMPT" != 1', "1 != 1", "does not have 'GITHUB_RUN_ATTEMPT' before"),
        (WORKFLOW, "  workflow_dispatch:\n", "", "it starts"),
        (WORKFLOW, "persist-credentials: false", "persist-credentials: true", "persist-credentials True, not False"),
        (WORKFLOW, "needs.build-source.outputs.publish }}\n", "'true' }}\n", "a release is final by"),
        (
            WORKFLOW,
            "release inspect dist/*.whl",
            "release plan",
            "does not have 'cibuildwheel' before 'release inspect'",
        ),
        (WORKFLOW, '-c "import mogemma, ', '-c "import ', "does not have 'release inspect' before 'import mogemma'"),
        (WORKFLOW, '--with "$sdist" mogemma doctor', '--with "$sdist" true', "does not have 'mogemma doctor' before"),
        (WORKFLOW, "mogemma-release release notes", "mogemma-release release note", "calls `release note`, which"),
        (WORKFLOW, "sha256sum --check --strict", "head", "does not have 'sha256sum --check' before"),
        (WORKFLOW, "jobs:\n", "jobs: [\n", "is not the workflow"),
        (WORKFLOW, "    strategy:\n", "    strategies:\n", "is not the workflow"),
    ],
)
def test_one_broken_line_is_found(copy: Path, file: str, old: str, new: str, said: str) -> None:
    break_line(copy, file, old, new)
    found = [finding for finding in findings(copy) if said in finding]
    assert found
    assert all(finding.startswith(file) for finding in found)


@pytest.mark.parametrize(
    "name", ["Upload, with attestations", "Draft the GitHub release", "Publish the GitHub release"]
)
def test_a_dry_run_that_would_publish_is_found(copy: Path, name: str) -> None:
    condition = f"        if: {IF_FINAL}\n"
    break_line(copy, WORKFLOW, f"- name: {name}\n{condition}", f"- name: {name}\n")
    assert list(findings(copy)) == [f"{WORKFLOW}: the step {name!r} runs if None, not {IF_FINAL}"]


def test_a_missing_workflow_is_found(copy: Path) -> None:
    (copy / WORKFLOW).unlink()
    assert [finding for finding in findings(copy) if finding.startswith(f"{WORKFLOW}: is not the workflow")]


def configure(copy: Path, configuration: str) -> list[str]:
    (copy / BUILD_CONFIGURATION).write_text(configuration, encoding="utf-8")
    return list(findings(copy))


def test_a_sound_configuration_of_cibuildwheel_is_accepted(copy: Path) -> None:
    assert configure(copy, CIBUILDWHEEL) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (', "cp314-*"', "", "cibuildwheel leaves out Python 3.14"),
        ('"cp310-*"', '"cp39-*", "cp310-*"', "cibuildwheel takes Python 3.9"),
        ('    "*-musllinux*",     # Mojo needs glibc\n', "", "cibuildwheel does not skip cp310-musllinux_x86_64"),
        ("# Mojo needs glibc", "", "has no reason beside *-musllinux*, which is skipped"),
        ("mogemma.commands.self_check", "mogemma", "cibuildwheel does not run mogemma.commands.self_check"),
        ('"*-macosx_x86_64"', '"*-macosx_*"', "cibuildwheel does not try *-macosx_*"),
        ('"x86_64", "aarch64"', '"x86_64"', "cibuildwheel builds for linux on ['x86_64'], not ['x86_64', 'aarch64']"),
    ],
)
def test_a_configuration_that_is_not_the_definitions_is_found(copy: Path, old: str, new: str, said: str) -> None:
    assert old in CIBUILDWHEEL
    assert configure(copy, CIBUILDWHEEL.replace(old, new)) == [f"{BUILD_CONFIGURATION}: {said}"]


def test_the_command_fails_when_there_is_a_finding(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copy)]) == 0
    break_line(copy, WORKFLOW, "qemu: true", "qemu: false")
    assert main([str(copy)]) == 1
    assert "wheels are built for" in capsys.readouterr().out
