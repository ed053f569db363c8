from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from throwaway import change_baseline, commit, git, make_step, release, set_version, write

from mogemma_release import evidence
from mogemma_release.cli import COMMANDS, main
from mogemma_release.commands import baselines as baselines_command
from mogemma_release.commands import notes as notes_command
from mogemma_release.commands import preflight
from mogemma_release.errors import ReleaseError
from mogemma_release.measurements import NOISE
from mogemma_release.repository import Repository
from mogemma_release.runbook import BASELINES, EVIDENCE, GENERATION_BASELINE, RUNBOOK_PAGE


def test_every_command_speaks_json_and_takes_a_root() -> None:
    for command in COMMANDS:
        assert {"as_json", "root"} <= {parameter.name for parameter in command.params}
        assert command.help


def test_outside_a_repository_every_command_is_a_sentence(tmp_path: Path) -> None:
    for command in COMMANDS:
        arguments = ["0.1.0", "--reason", "x"] if command.name == "rollback" else []
        result = CliRunner().invoke(main, [str(command.name), *arguments, "--root", str(tmp_path)])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: git rev-parse")


@pytest.mark.parametrize("error", [ReleaseError("No."), PermissionError(13, "Permission denied", "dist")])
def test_every_failure_is_a_document_or_a_sentence(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(notes_command, "release_notes", fail)
    status, text, told = release(repository, "notes", "--json")
    assert (status, told) == (1, "")
    assert json.loads(text) == {"ok": False, "error": str(error), "needs_outside": False}
    assert release(repository, "notes") == (1, "", f"error: {error}\n")


def test_plan_runs_nothing_and_shows_how_far_it_is(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    status, text, _ = release(repository, "plan", "--json")
    told = json.loads(text)
    assert status == 0
    assert [step["name"] for step in told["evidence"]] == [step.name for step in EVIDENCE]
    assert {step["state"] for step in told["evidence"]} == {None}
    steps = (make_step("install", "true"), make_step("models", "false"))
    monkeypatch.setattr(evidence, "EVIDENCE", steps)
    assert release(repository, "evidence", "--quiet")[0] == 1
    told = json.loads(release(repository, "plan", "--json")[1])
    assert [step["state"] for step in told["evidence"]][:3] == ["passed", "failed", None]


def test_evidence_says_which_step_failed_and_where_its_log_is(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE", (make_step("one", "true"), make_step("two", "exit 9")))
    status, text, told = release(repository, "evidence")
    assert status == 1
    assert "two failed with status 9: see" in text
    assert "02-two.log" in text
    assert "one: passed" in told


def test_evidence_of_another_commit_is_not_gone_on_with(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE", (make_step("one", "false"),))
    assert release(repository, "evidence")[0] == 1
    write(repository.root / "new.py", "")
    commit(repository.root, "later")
    status, _, told = release(repository, "evidence")
    assert (status, "differ in new.py" in told) == (1, True)
    assert release(repository, "evidence", "--fresh")[0] == 1
    assert len(list((repository.root / "evidence").glob("0.1.0*"))) == 2


def test_go_is_a_page_of_proofs_and_exit_status_1_on_a_no_go(repository: Repository) -> None:
    status, text, _ = release(repository, "go")
    assert status == 1
    assert "go     clean-tree" in text
    assert "NO-GO  evidence" in text
    assert text.rstrip().endswith("no-go")
    told = json.loads(release(repository, "go", "--json")[1])
    assert (told["ok"], told["go"]) == (False, False)


def test_notes_are_the_changelogs_section(repository: Repository) -> None:
    status, text, _ = release(repository, "notes")
    assert (status, text) == (0, "# mogemma 0.1.0\n\n- It runs.\n")
    file = repository.root / "build" / "notes.md"
    assert release(repository, "notes", "--output", str(file))[0] == 0
    assert file.read_text() == text


def test_notes_of_a_coming_version_are_made_of_fragments(repository: Repository) -> None:
    set_version(repository.root, "0.2.0.dev0")
    write(repository.root / "changes" / "+faster.feature.md", "It is faster.\n")
    assert release(repository, "notes")[1] == "# mogemma 0.2.0.dev0\n\n### Added\n\n- It is faster.\n"


def test_notes_need_no_installed_library(repository: Repository) -> None:
    """publish.yml installs the companion alone."""
    set_version(repository.root, "0.2.0.dev0")
    settings = repository.root / "pyproject.toml"
    settings.write_text(settings.read_text().replace('package = "mogemma"', 'package = "not-installed-here"'))
    write(repository.root / "changes" / "+faster.feature.md", "It is faster.\n")
    status, text, _ = release(repository, "notes")
    assert (status, "- It is faster." in text) == (0, True)


def test_a_version_of_which_nothing_is_said_has_no_notes(repository: Repository) -> None:
    set_version(repository.root, "0.2.0.dev0")
    status, _, told = release(repository, "notes")
    assert (status, "Nothing says what changed in 0.2.0.dev0" in told) == (1, True)


def test_docs_writes_what_check_wants(repository: Repository) -> None:
    page = repository.root / RUNBOOK_PAGE
    page.write_text(page.read_text().replace("Rollback", "Rollbeck"))
    status, _, told = release(repository, "docs", "--check")
    assert status == 1
    assert "-## Rollbeck\n+## Rollback" in told
    assert release(repository, "docs")[1] == f"wrote {RUNBOOK_PAGE}\n"
    assert release(repository, "docs", "--check")[0] == 0


def test_preflight_runs_the_targets_in_order(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository.root / "Makefile", "lint check test:\n\t@echo $@ >> build/ran\n")
    (repository.root / "build").mkdir()
    status, text, _ = release(repository, "preflight", "--json")
    assert (status, json.loads(text)["changes"]) == (0, ["Makefile"])
    assert (repository.root / "build" / "ran").read_text().split() == list(preflight.TARGETS)


@pytest.mark.parametrize("target", preflight.TARGETS)
def test_preflight_fails_with_any_target(repository: Repository, target: str) -> None:
    others = " ".join(name for name in preflight.TARGETS if name != target)
    write(repository.root / "Makefile", f"{target}:\n\t@false\n{others}:\n\t@true\n")
    status, _, told = release(repository, "preflight")
    assert status == 1
    assert f"`make {target}` failed with status 2" in told


@pytest.mark.parametrize("name", [*BASELINES.values(), RUNBOOK_PAGE, NOISE])
def test_preflight_fails_with_a_damaged_file(repository: Repository, name: str) -> None:
    write(repository.root / "Makefile", "lint check test:\n\t@true\n")
    assert release(repository, "preflight")[0] == 0
    file = repository.root / name
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 2]))
    assert release(repository, "preflight")[0] == 1


def test_baselines_without_a_release_before_have_nothing_to_compare(repository: Repository) -> None:
    status, text, _ = release(repository, "baselines")
    assert (status, text) == (0, "There is no release before this one: nothing to compare with.\n")


def test_baselines_are_compared_with_a_folder_or_a_commit(repository: Repository) -> None:
    before = repository.commit
    folder = repository.root / "build" / "older"
    folder.mkdir(parents=True)
    for name in BASELINES.values():
        (folder / Path(name).name).write_bytes((repository.root / name).read_bytes())
    change_baseline(repository.root / GENERATION_BASELINE, {"decode.tokens_per_second": 0.7})
    for against in (before, str(folder)):
        status, text, _ = release(repository, "baselines", "--against", against)
        assert status == 1
        assert "REGRESSION generation decode" in text
        assert "1 of 7 figures are worse" in text


def test_compared_figures_have_the_spread_of_their_rounds(repository: Repository) -> None:
    before = repository.commit
    decoded = json.loads((repository.root / GENERATION_BASELINE).read_text())["decode"]["tokens_per_second"]
    change_baseline(repository.root / GENERATION_BASELINE, {"decode.tokens_per_second": 0.5})
    status, text, _ = release(repository, "baselines", "--against", before)
    assert status == 1
    (line,) = [line for line in text.splitlines() if "generation decode" in line]
    median, least, most = (decoded[key] for key in ("median", "min", "max"))
    assert f": {median:,.4g} ({least:,.4g} to {most:,.4g}) -> {median / 2:,.4g} ({least / 2:,.4g} to " in line
    (line,) = [line for line in text.splitlines() if "generation peak memory" in line]
    assert "(" not in line.partition(" -> ")[0], "what is measured once has no spread"
    told = json.loads(release(repository, "baselines", "--against", before, "--json")[1])["changes"]
    (change,) = [change for change in told if change["figure"]["name"] == "decode"]
    assert change["before_range"] == [least, most]
    assert change["after_range"] == [least / 2, most / 2]


def test_baselines_against_nothing_are_a_sentence(repository: Repository) -> None:
    status, _, told = release(repository, "baselines", "--against", "no-such-thing")
    assert (status, "is no folder with baselines, and no commit" in told) == (1, True)


def test_noise_is_measured_by_the_commands_that_capture(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tuple(make_step(f"baseline-{mode}", f"cat {name}", output=name) for mode, name in BASELINES.items())
    monkeypatch.setattr(baselines_command, "EVIDENCE", steps)
    status, _, told = release(repository, "baselines", "--noise", "4")
    assert (status, told.count("run 4 of 4")) == (0, 2)
    runs = json.loads((repository.root / NOISE).read_text())["runs"]
    assert {len(values) for values in runs.values()} == {4}
    assert "generation decode share" in runs


def test_noise_that_cannot_be_measured_leaves_the_file(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines_command, "EVIDENCE", (make_step("x", "false", output=GENERATION_BASELINE),))
    before = (repository.root / NOISE).read_bytes()
    status, _, told = release(repository, "baselines", "--noise", "4")
    assert (status, "`false` failed with status 1" in told) == (1, True)
    assert (repository.root / NOISE).read_bytes() == before


def test_a_tag_is_no_branch_of_the_remote(repository: Repository) -> None:
    """`release tag` alone sends nothing."""
    git(repository.root, "remote", "add", "origin", str(repository.root / "nowhere"))
    assert release(repository, "tag")[0] == 1
