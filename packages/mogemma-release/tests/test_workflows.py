"""ci.yml and publish.yml are what the runbook's definition says, and a line that is not is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from mogemma_release.matrix import CI_JOBS, CI_WORKFLOW, JOBS, PLATFORMS, PYTHONS, SKIPPED, WORKFLOW
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
        (CI_WORKFLOW, "make lint check", "make lint", "job lint does"),
        (CI_WORKFLOW, "      - run: make test\n", "", "job test does"),
        (CI_WORKFLOW, "make smoke # builds", "make build", "job build does"),
        (CI_WORKFLOW, "run: .ci/run", "run: make test", "job real-models does"),
        (CI_WORKFLOW, "run: make check-release", "run: make check", "job check-release does"),
        (
            CI_WORKFLOW,
            "      - run: make test\n",
            "      - run: make test\n        if: false\n",
            "a step of job test runs if",
        ),
        (CI_WORKFLOW, "== 'workflow_dispatch'", "== 'push'", "job check-release has if"),
        (CI_WORKFLOW, "    env:\n      UV_PYTHON: ${{ matrix.python }}\n", "", "job test has env None"),
        (CI_WORKFLOW, "runs-on: ${{ matrix.os }}", "runs-on: ubuntu-latest", "job test has runs-on"),
        (CI_WORKFLOW, "  pull_request:\n", "", "it starts"),
        (CI_WORKFLOW, "    timeout-minutes: 20\n", "", "job lint has no timeout-minutes"),
        (CI_WORKFLOW, "retention-days: 1", "retention-days: 90", "retention-days 90, not 1"),
        (WORKFLOW, "permissions: {}", "permissions: read-all", "permissions of the whole workflow"),
        (WORKFLOW, "  build-source:\n", "  source:\n", "is not the workflow"),
        (WORKFLOW, "jobs:\n", "jobs:\n  more:\n    steps: []\n", "the jobs are"),
        (WORKFLOW, "3.13 3.14", "3.13", "the Pythons are"),
        (WORKFLOW, "arch: arm64\n", "arch: universal2\n", "wheels are built for"),
        (WORKFLOW, "qemu: true", "qemu: false", "wheels are built for"),
        (WORKFLOW, "needs: [build-source, build-wheels]", "needs: [build-source]", "job publish-release has needs"),
        (WORKFLOW, "# No PyPy", "# PyPy", "does not say beside the platforms: No PyPy"),
        (
            WORKFLOW,
            "      id-token: write",
            "      packages: write\n      id-token: write",
            "job publish-release has permissions",
        ),
        (WORKFLOW, "attestations: true", "attestations: false", "'Upload, with attestations' has with"),
        (WORKFLOW, "          print-hash: true", "          skip-existing: true", "skip-existing"),
        (WORKFLOW, "${{ github.token }}", "${{ secrets.TOKEN }}", "needs a secret"),
        (WORKFLOW, " # v8.0.1", "", "actions/download-artifact has no comment that says its version"),
        (WORKFLOW, "cancel-in-progress: false", "cancel-in-progress: true", "runs wait for each other by"),
        (WORKFLOW, "group: publish-${{ github.ref }}", "group: publish", "runs wait for each other by"),
        (CI_WORKFLOW, "github.event.pull_request.number || github.run_id", "github.ref", "runs replace each other by"),
        (WORKFLOW, '"$GITHUB_RUN_ATTEMPT" != 1', "1 != 1", "has no 'GITHUB_RUN_ATTEMPT'"),
        (WORKFLOW, "  workflow_dispatch:\n", "", "it starts"),
        (WORKFLOW, "persist-credentials: false", "persist-credentials: true", "persist-credentials True, not False"),
        (WORKFLOW, "needs.build-source.outputs.publish }}\n", "'true' }}\n", "job publish-release has env"),
        (WORKFLOW, "    environment: ${{", "    # ${{", "job publish-release has environment None"),
        (WORKFLOW, "'release' || 'dry-run'", "'release' || 'release'", "job publish-release has environment"),
        (WORKFLOW, "    needs: [build-source]\n", "", "job build-wheels has needs None"),
        (WORKFLOW, "      publish: ${{ steps.gate.outputs.publish }}\n", "      publish: true\n", "has outputs"),
        (WORKFLOW, "    name: publish-release\n", "    name: publish-release\n    if: always()\n", "has if always()"),
        (
            WORKFLOW,
            "steps.gate.outputs.publish == 'true'",
            "steps.gate.outputs.publish == 'yes'",
            "not passed' runs if",
        ),
        (WORKFLOW, "--branch main --event push", "", "has no '--branch main --event push'"),
        (
            WORKFLOW,
            "            exit 1\n          fi\n      - name: Build",
            "          fi\n      - name: Build",
            "no 'exit 1'",
        ),
        (WORKFLOW, "            exit 1\n          fi\n      - uses", "          fi\n      - uses", "no 'exit 1'"),
        (WORKFLOW, "            exit 1\n", "            # exit 1\n", "has no 'exit 1'"),
        (WORKFLOW, "SOURCE_DATE_EPOCH=", "EPOCH=", "job build-source has no 'SOURCE_DATE_EPOCH='"),
        (WORKFLOW, "          export SOURCE_DATE_EPOCH\n", "", "job build-wheels has no 'export SOURCE_DATE_EPOCH'"),
        (WORKFLOW, " --require-hashes", "", "has no '--require-hashes'"),
        (WORKFLOW, "--build-constraints build/tools.txt", "", "has no '--build-constraints build/tools.txt'"),
        (WORKFLOW, "          make build-tools\n", "", "job build-source has no 'make build-tools'"),
        (WORKFLOW, "        run: shasum --algorithm 256 -- *.tar.gz > SHA256SUMS-source\n", "", "has no 'shasum"),
        (WORKFLOW, "          packages-dir: dist\n", "", "'Upload, with attestations' has with"),
        (WORKFLOW, "            kernels: true\n", "", "wheels are built for"),
        (WORKFLOW, "          KERNELS: ${{ matrix.kernels }}\n", "", "on every Python' has env"),
        (WORKFLOW, "          fetch-depth: 0 #", "          #", "the step 'actions/checkout' has with"),
        (WORKFLOW, "    shell: bash\n", "    shell: sh\n", "scripts run with"),
        (WORKFLOW, "release inspect dist/*.whl", "release plan", "has no 'release inspect' after 'cibuildwheel"),
        (WORKFLOW, '-c "import mogemma, ', '-c "import ', "has no 'import mogemma' after 'release inspect'"),
        (WORKFLOW, '--with "$sdist" mogemma doctor', '--with "$sdist" true', "has no 'mogemma doctor'"),
        (WORKFLOW, "mogemma-release release notes", "mogemma-release release note", "calls `release note`, which"),
        (WORKFLOW, "sha256sum --check --strict", "head", "has no 'sha256sum --check --strict'"),
        (WORKFLOW, "jobs:\n", "jobs: [\n", "is not the workflow"),
        (WORKFLOW, "    strategy:\n", "    strategies:\n", "is not the workflow"),
    ],
)
def test_one_broken_line_is_found(copy: Path, file: str, old: str, new: str, said: str) -> None:
    break_line(copy, file, old, new)
    found = [finding for finding in findings(copy) if said in finding]
    assert found
    assert all(finding.startswith(file) for finding in found)


@pytest.mark.parametrize("file", [CI_WORKFLOW, WORKFLOW])
def test_every_lost_step_is_found(copy: Path, file: str) -> None:
    workflow = yaml.safe_load((REPOSITORY / file).read_text(encoding="utf-8"))
    comments = "".join(f"# No {name}: {reason}\n" for name, reason in SKIPPED.items())
    for job in workflow["jobs"].values():
        for place, step in enumerate(job["steps"]):
            job["steps"].pop(place)
            (copy / file).write_text(comments + yaml.safe_dump(workflow, sort_keys=False), encoding="utf-8")
            found = [finding for finding in findings(copy) if "comment that says its version" not in finding]
            assert found, f"{step} is lost"
            job["steps"].insert(place, step)


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
