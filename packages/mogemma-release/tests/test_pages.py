from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from throwaway import ROOT, change_baseline

from mogemma_release.commands.preflight import TARGETS
from mogemma_release.errors import ReleaseError
from mogemma_release.matrix import DRY_RUN_ENVIRONMENT, ENVIRONMENT, PLATFORMS, SKIPPED, WORKFLOW
from mogemma_release.pages import runbook_page, stale_pages, write_pages
from mogemma_release.repository import Repository
from mogemma_release.runbook import (
    BASELINES_PAGE,
    DRY_RUN,
    EVIDENCE,
    GENERATION_BASELINE,
    GO,
    MATRIX_CHECKS,
    PUBLISHING,
    ROLES,
    ROLLBACK,
    RUNBOOK_PAGE,
    SETUP,
)
from mogemma_release.workflows.publishing import RELEASE
from mogemma_release.workflows.workflow import Workflow


def test_the_committed_pages_are_what_the_runbook_and_the_baselines_say() -> None:
    assert stale_pages(Repository(ROOT)) == {}


def test_the_runbook_page_has_every_step_item_platform_and_reason() -> None:
    page = "\n".join(runbook_page())
    for step in (*EVIDENCE, *PUBLISHING, *DRY_RUN):
        assert step.what in page
        assert step.why in page
        assert step.proof in page
    assert all(f"{item.name}: {item.claim}" in page for item in GO)
    assert all(platform.wheel_tag in page for platform in PLATFORMS)
    assert all(f"{name}: {reason}" in page for name, reason in SKIPPED.items())


@pytest.mark.parametrize("page", [RUNBOOK_PAGE, BASELINES_PAGE])
def test_any_changed_line_of_a_page_is_noticed(repository: Repository, page: str) -> None:
    file = repository.root / page
    lines = file.read_text().splitlines(keepends=True)
    for number in range(0, len(lines), 17):
        file.write_text("".join([*lines[:number], "broken\n", *lines[number + 1 :]]))
        assert list(stale_pages(repository)) == [page]
    file.unlink()
    assert list(stale_pages(repository)) == [page]
    assert write_pages(repository) == [page]
    assert stale_pages(repository) == {}


def test_any_changed_line_of_a_baseline_is_noticed(repository: Repository) -> None:
    """Where the document stays sound, the page's digest of it differs."""
    file = repository.root / GENERATION_BASELINE
    text = file.read_text()
    lines = text.splitlines(keepends=True)
    for number in range(0, len(lines), 5):
        file.write_text("".join([*lines[:number], *lines[number + 1 :]]))
        try:
            assert stale_pages(repository), f"without line {number + 1}"
        except ReleaseError:
            continue
    file.write_text(text)
    change_baseline(file, {}, load_average=99.0)
    assert list(stale_pages(repository)) == [BASELINES_PAGE]


def test_the_page_says_who_may_say_go_and_what_is_set_up_once() -> None:
    page = "\n".join(runbook_page())
    for rule in (*ROLES, *SETUP, *ROLLBACK):
        assert f"- {rule.what} {rule.why}\n" in page
    assert page.index("## Who may say go") < page.index("## Set up once") < page.index("## Pre-release evidence")
    publish = Workflow.read(ROOT / WORKFLOW)
    environments = set(re.findall(r"'([\w-]+)'", publish.jobs[RELEASE]["environment"])) - {"true"}
    assert environments == {ENVIRONMENT, DRY_RUN_ENVIRONMENT}
    (tags,) = publish.starts["push"]["tags"]
    told = " ".join(rule.what for rule in SETUP)
    assert all(f"`{name}`" in told for name in (*environments, tags, "main", Path(WORKFLOW).name))


def test_everything_is_built_as_users_do_and_then_as_it_is_published() -> None:
    """Both fill dist/, and what is published is looked into there."""
    commands = [step.command for step in EVIDENCE]
    assert commands.index("make build") < commands.index("make wheels") < commands.index("uv run release inspect dist")
    assert {"make build", "make wheels"} <= {check.command for check in MATRIX_CHECKS}


def test_matrix_checks_are_what_the_makefile_runs() -> None:
    done = subprocess.run(["make", "--dry-run", *TARGETS], cwd=ROOT, check=True, capture_output=True, text=True)
    for check in MATRIX_CHECKS:
        if check.step == "check-release":
            assert check.command in done.stdout
    steps = {step.name: step for step in EVIDENCE}
    for check in MATRIX_CHECKS:
        assert check.step in steps
        if check.step != "check-release":
            assert check.command in steps[check.step].typed
