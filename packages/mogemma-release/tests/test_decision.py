from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from throwaway import add_remote, change_baseline, commit, git, make_step, set_version, write

from mogemma_release import evidence
from mogemma_release.decision import PROOFS, Case, Proof, decide
from mogemma_release.evidence import Bundle, collect
from mogemma_release.measurements import NOISE
from mogemma_release.notes import NOTES, write_evidence_page
from mogemma_release.repository import Repository
from mogemma_release.runbook import BASELINES, EVIDENCE, GENERATION_BASELINE, GO

Ready = Callable[..., Case]


@pytest.fixture
def ready(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ready:
    """Collects evidence with quick steps in the runbook's places, and lets GitHub say that all is well."""

    def collect_all(**commands: str) -> Case:
        quick = []
        for step in EVIDENCE:
            name = step.name
            command = f"cat {step.output}" if step.output else "echo 12 passed"
            keeps = tuple(file for file in step.keeps if not file.startswith("dist/"))
            quick.append(make_step(name, commands.get(name, command), output=step.output, keeps=keeps))
        monkeypatch.setattr(evidence, "EVIDENCE", tuple(quick))
        bundle = Bundle.begin(repository)
        if collect(bundle, repository) is None:
            write_evidence_page(bundle)
        publish(repository, tmp_path / "remote.git")
        return Case(repository, answer(tmp_path, headSha=repository.commit))

    return collect_all


def publish(repository: Repository, remote: Path) -> None:
    """Push main as it is."""
    if not remote.exists():
        add_remote(repository.root, remote)
    git(repository.root, "push", "--quiet", "origin", "HEAD:main")


def answer(folder: Path, **fields: Any) -> Path:
    return answers(folder, fields)


def answers(folder: Path, *runs: Mapping[str, Any]) -> Path:
    """What GitHub tells of runs, the newest first."""
    passed = {"status": "completed", "conclusion": "success", "event": "push", "headBranch": "main"}
    told = [{**passed, "url": f"https://example.org/run/{len(runs) - i}", **run} for i, run in enumerate(runs)]
    file = folder / "ci.json"
    file.write_text(json.dumps(told))
    return file


def by_name(proofs: list[Proof]) -> dict[str, Proof]:
    return {proof.item: proof for proof in proofs}


def refused(case: Case) -> dict[str, str]:
    return {proof.item: proof.detail for proof in decide(case) if not proof.passed}


def test_every_item_has_a_proof() -> None:
    assert list(PROOFS) == [item.name for item in GO]


def test_a_release_with_all_its_evidence_is_a_go(ready: Ready) -> None:
    proofs = decide(ready())
    assert {proof.item: proof.detail for proof in proofs if not proof.passed} == {}
    assert "logs/03-check-release.log" in by_name(proofs)["check-release"].detail
    assert by_name(proofs)["ci"].detail == "https://example.org/run/1"


def test_without_evidence_all_that_needs_it_is_a_no_go(repository: Repository) -> None:
    found = refused(Case(repository))
    assert set(found) == {item.name for item in GO} - {"clean-tree", "version"}
    assert "Run `release evidence`" in found["reproducible"]


def test_a_dirty_tree_is_a_no_go(ready: Ready, repository: Repository) -> None:
    case = ready()
    write(repository.root / "stray.py", "")
    assert refused(case) == {"clean-tree": "The tree has changes: stray.py. Commit them or put them away."}


def test_a_development_version_is_a_no_go(repository: Repository, ready: Ready) -> None:
    set_version(repository.root, "0.1.0.dev0")
    commit(repository.root, "dev")
    case = Case(Repository(repository.root))
    assert "is a development version" in refused(case)["version"]


def test_a_failed_step_is_a_no_go_where_it_is_the_proof(ready: Ready) -> None:
    found = refused(ready(reproduce="exit 4"))
    assert found["reproducible"] == "The step reproduce ended with status 4; see logs/11-reproduce.log."
    assert "Steps that have not passed: reproduce, benchmark" in found["evidence"]
    assert "check-release" not in found


def test_evidence_of_another_commit_is_a_no_go(ready: Ready, repository: Repository) -> None:
    case = ready()
    write(repository.root / "new.py", "")
    commit(repository.root, "later")
    found = refused(Case(repository, case.ci))
    assert "differ in new.py" in found["evidence"]
    assert "has not run on" in found["ci"]


def test_a_tampered_log_is_a_no_go_everywhere(ready: Ready, repository: Repository) -> None:
    case = ready()
    (Bundle.folder_of(repository) / "logs" / "03-check-release.log").write_text("all is well\n")
    found = refused(Case(repository, case.ci))
    assert all(
        "03-check-release.log was changed" in found[name] for name in ("check-release", "smoke", "evidence", "notes")
    )


def test_another_baseline_than_the_captured_one_is_a_no_go(ready: Ready, repository: Repository) -> None:
    case = ready()
    change_baseline(repository.root / GENERATION_BASELINE, {}, load_average=3.5)
    found = refused(case)
    assert f"{GENERATION_BASELINE} is not the file that the evidence captured" in found["baselines"]
    assert "performance-baselines.md are out of date" in found["docs"]


def test_a_regression_is_a_no_go(ready: Ready, repository: Repository) -> None:
    """The release before was faster, on the same machine, by more than the threshold."""
    file = repository.root / GENERATION_BASELINE
    now = file.read_bytes()
    change_baseline(file, {"decode.tokens_per_second": 1.5})
    commit(repository.root, "faster")
    git(repository.root, "tag", "v0.0.9")
    file.write_bytes(now)
    commit(repository.root, "slower")
    found = refused(ready())
    assert set(found) == {"baselines"}
    assert "generation decode x 0.67" in found["baselines"]


def test_baselines_that_were_captured_anew_here_take_their_place(
    ready: Ready, repository: Repository, tmp_path: Path
) -> None:
    """After the machine has changed there is no other way to a go."""
    file = repository.root / GENERATION_BASELINE
    now = file.read_bytes()
    change_baseline(file, {}, processor="another")
    commit(repository.root, "elsewhere")
    git(repository.root, "tag", "v0.0.9")
    file.write_bytes(now)
    commit(repository.root, "here")
    case = ready()
    for name in BASELINES.values():
        (tmp_path / Path(name).name).write_bytes((repository.root / name).read_bytes())
    assert set(refused(case)) == {"baselines"}
    assert refused(Case(repository, case.ci, against=str(tmp_path))) == {}


def test_baselines_of_another_machine_are_a_no_go(ready: Ready, repository: Repository) -> None:
    file = repository.root / GENERATION_BASELINE
    now = file.read_bytes()
    change_baseline(file, {}, processor="another")
    commit(repository.root, "elsewhere")
    git(repository.root, "tag", "v0.0.9")
    file.write_bytes(now)
    commit(repository.root, "here")
    found = refused(ready())
    assert "cannot be compared: environment.processor was 'another'" in found["baselines"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"conclusion": "failure"}, "has not passed on"),
        ({"status": "in_progress", "conclusion": ""}, "has not passed on"),
        ({"headSha": "0" * 40}, "has not run on"),
        ({"event": "pull_request"}, "has not run on"),
        ({"headBranch": "v0.1.0"}, "has not run on"),
    ],
)
def test_ci_that_has_not_passed_on_the_commit_is_a_no_go(
    ready: Ready, repository: Repository, tmp_path: Path, fields: dict[str, str], sentence: str
) -> None:
    ready()
    file = answer(tmp_path, **{"headSha": repository.commit, **fields})
    assert sentence in refused(Case(repository, file))["ci"]


def test_of_each_kind_the_newest_run_counts(ready: Ready, repository: Repository, tmp_path: Path) -> None:
    """One that was green before it was red, or the other way round."""
    ready()
    push, by_hand = {"headSha": repository.commit}, {"headSha": repository.commit, "event": "workflow_dispatch"}
    red = {"conclusion": "failure"}
    assert "ci" in refused(Case(repository, answers(tmp_path, {**by_hand, **red}, push)))
    assert "ci" in refused(Case(repository, answers(tmp_path, {**push, **red}, push)))
    assert "ci" not in refused(Case(repository, answers(tmp_path, push, {**push, **red}, by_hand)))
    assert "ci" in refused(Case(repository, answers(tmp_path, by_hand)))


def test_a_commit_that_is_not_on_githubs_main_is_a_no_go(ready: Ready, repository: Repository, tmp_path: Path) -> None:
    """Its tag would be used up, and nothing published."""
    ready()
    write(repository.root / "new.py", "")
    commit(repository.root, "later")
    assert "`git fetch --tags origin`, then merge and push" in refused(Case(repository))["main"]
    publish(repository, tmp_path / "remote.git")
    assert "main" not in refused(Case(repository))


def test_a_tag_that_only_github_has_is_a_no_go(ready: Ready, repository: Repository) -> None:
    """What is newer than every tag, and what is compared with, hangs on knowing all."""
    case = ready()
    git(repository.root, "tag", "v0.0.9")
    git(repository.root, "push", "--quiet", "origin", "v0.0.9")
    assert "main" not in refused(case)
    git(repository.root, "tag", "--delete", "v0.0.9")
    assert set(refused(case)) == {"main"}


def test_a_main_that_this_clone_has_never_seen_is_a_no_go(ready: Ready, repository: Repository, tmp_path: Path) -> None:
    case = ready()
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(tmp_path / "remote.git"), str(other))
    git(other, "config", "user.name", "Eve")
    git(other, "config", "user.email", "eve@example.org")
    write(other / "new.py", "")
    commit(other, "theirs")
    git(other, "push", "--quiet", "origin", "HEAD:main")
    assert "are not known here" in refused(case)["main"]


def test_a_remote_that_is_gone_is_a_no_go(ready: Ready, repository: Repository, tmp_path: Path) -> None:
    case = ready()
    git(repository.root, "remote", "set-url", "origin", str(tmp_path / "gone.git"))
    assert refused(case)["main"].startswith("origin cannot be asked: git ls-remote")


def test_without_github_the_item_says_how_to_prove_it(
    ready: Ready, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "there is no `gh` here" in refused(Case(repository))["ci"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null"])
def test_an_answer_that_is_none_of_githubs_is_a_sentence(
    ready: Ready, repository: Repository, tmp_path: Path, text: str
) -> None:
    ready()
    file = tmp_path / "other.json"
    file.write_text(text)
    assert refused(Case(repository, file))["ci"]


def test_notes_without_their_version_are_a_no_go(ready: Ready, repository: Repository) -> None:
    changelog = repository.root / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## 0.1.0 (", "## 0.0.1 ("))
    commit(repository.root, "no notes")
    assert "has no section for 0.1.0" in refused(ready())["notes"]


def test_the_page_has_quality_documents_performance_and_plots(ready: Ready) -> None:
    folder = ready().bundle.folder
    text = (folder / NOTES).read_text()
    for step in EVIDENCE:
        assert f"| {step.name} | " in text
    assert "- 12 passed" in text
    for mode in BASELINES:
        assert f"(plots/{mode}.svg)" in text
        assert (folder / "plots" / f"{mode}.svg").read_text().startswith("<?xml")
    assert NOISE not in text
