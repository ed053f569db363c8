from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner
from throwaway import change_baseline, commit, git, make_step, set_version, snapshot, write

from mogemma_release import evidence
from mogemma_release.cli import main
from mogemma_release.errors import ReleaseError
from mogemma_release.evidence import Bundle, collect, set_aside
from mogemma_release.files import sha256
from mogemma_release.notes import NOTES, write_evidence_page
from mogemma_release.repository import Repository
from mogemma_release.runbook import BASELINES, RECORDS, Step

Steps = Callable[..., tuple[Step, ...]]
T = TypeVar("T")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Makes the runbook's evidence steps others."""

    def become(*these: Step) -> tuple[Step, ...]:
        monkeypatch.setattr(evidence, "EVIDENCE", these)
        return these

    return become


def read(repository: Repository) -> Bundle:
    return Bundle.read(Bundle.folder_of(repository))


def test_each_step_has_command_times_status_and_log(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "echo first; echo aside >&2"), make_step("two", "echo second"))
    assert collect(Bundle.begin(repository), repository) is None
    bundle = read(repository)
    one, two = bundle.entries
    assert (one.command, one.exit_status, one.passed) == ("echo first; echo aside >&2", 0, True)
    assert datetime.fromisoformat(one.started) <= datetime.fromisoformat(one.ended) <= datetime.fromisoformat(two.ended)
    assert one.seconds > 0
    assert (bundle.folder / one.log).read_text() == "first\naside\n"
    assert bundle.commit == repository.commit
    assert bundle.about["changes"] == []
    assert bundle.about["tools"]["git"]
    assert bundle.missing == ()


def test_sha256sum_confirms_the_bundle(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "echo first"))
    collect(Bundle.begin(repository), repository)
    bundle = read(repository)
    bundle.check_sums()
    for line in (bundle.folder / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert sha256(bundle.folder / name) == digest
    assert "bundle.json" in (bundle.folder / "SHA256SUMS").read_text()


def test_a_failing_step_ends_the_run_and_the_next_run_goes_on_there(repository: Repository, steps: Steps) -> None:
    count = "echo x >> build/count; "
    (repository.root / "build").mkdir()
    steps(
        make_step("one", count + "echo fine"), make_step("two", "test -e build/mended"), make_step("three", "echo last")
    )
    failed = collect(Bundle.begin(repository), repository)
    assert failed is not None
    assert (failed.step, failed.exit_status, failed.passed) == ("two", 1, False)
    assert read(repository).missing == ("two", "three")
    (repository.root / "build" / "mended").touch()
    assert collect(read(repository), repository) is None
    assert (repository.root / "build" / "count").read_text() == "x\n", "a step that passed is not repeated"


def test_a_pipe_whose_first_command_fails_is_a_failure(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "false | cat"))
    failed = collect(Bundle.begin(repository), repository)
    assert failed is not None
    assert failed.exit_status == 1


def test_a_hanging_step_is_ended_and_recorded(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "echo begun; sleep 600", limit_seconds=1.0))
    failed = collect(Bundle.begin(repository), repository)
    assert failed is not None
    assert failed.timed_out
    assert (read(repository).folder / failed.log).read_text() == "begun\n"


INTERRUPTED = """
import sys
from throwaway import make_step
from mogemma_release import evidence
from mogemma_release.cli import main
from mogemma_release.commands import dry_run
waiting = make_step("wheels", "echo $$ > build/running; while test ! -e build/go; do sleep 0.05; done")
evidence.EVIDENCE = dry_run.EVIDENCE = (make_step("one", "echo fine"), waiting)
main(sys.argv[1:])
"""


def start(repository: Repository, *arguments: str, wrapper: Sequence[str] = ()) -> tuple[subprocess.Popen[str], int]:
    """`release` in a process of its own, and the id of its second step's."""
    running = repository.root / "build" / "running"
    running.parent.mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", INTERRUPTED, *arguments, "--root", str(repository.root)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    latest = time.monotonic() + 60
    while not (running.exists() and running.read_text()) and time.monotonic() < latest:
        time.sleep(0.05)
    return process, int(running.read_text())


def is_running(process: int) -> bool:
    """Whether a process that is not a child of this one does something."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False).stdout
    return bool(told.strip()) and not told.startswith("Z")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_step_leaves_no_entry_and_runs_again(repository: Repository, number: signal.Signals) -> None:
    """In the middle of a step: it is ended, what had passed stays, what ran is as if it had not begun."""
    process, step = start(repository, "evidence")
    assert is_running(step)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "interrupted: the step will run again" in told
    assert not is_running(step)
    assert [entry.step for entry in read(repository).entries] == ["one"]
    assert [file.name for file in (Bundle.folder_of(repository) / "logs").iterdir()] == ["01-one.log"]


def test_an_interrupted_step_is_a_document_with_json(repository: Repository) -> None:
    process, _ = start(repository, "evidence", "--json")
    process.send_signal(signal.SIGTERM)
    told = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, told["ok"]) == (128 + signal.SIGTERM, False)
    assert told["error"].startswith("interrupted: the step will run again")


@pytest.mark.parametrize("option", [[], ["--fresh"]])
def test_a_second_run_at_the_same_time_is_refused(repository: Repository, option: list[str]) -> None:
    def files() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in (repository.root / "evidence").rglob("*") if file.is_file()}

    process, step = start(repository, "evidence")
    try:
        before = files()
        second = CliRunner().invoke(main, ["evidence", *option, "--root", str(repository.root)])
        assert second.exit_code == 1
        assert "Another `release evidence` is going on" in second.stderr
        assert files() == before
        assert is_running(step)
    finally:
        process.kill()  # the lock goes with the process, however that ends
        process.communicate(timeout=60)
        os.killpg(step, signal.SIGKILL)
    (repository.root / "build" / "go").touch()
    third, _ = start(repository, "evidence")
    third.communicate(timeout=60)
    bundle = read(repository)
    assert [entry.passed for entry in bundle.entries] == [True, True]
    assert not any("lock" in name for name in bundle.digests)
    assert repository.changes == ()


def test_an_interrupted_dry_run_ends_its_step_and_tags_nothing(repository: Repository) -> None:
    set_version(repository.root, "0.2.0.dev0")
    commit(repository.root, "0.2.0.dev0")
    process, step = start(repository, "dry-run")
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted: all steps will run again. Nothing was tagged." in told
    assert not is_running(step)
    assert git(repository.root, "tag") == ""


def test_a_closed_terminal_does_not_end_what_nohup_has_started(repository: Repository) -> None:
    process, step = start(repository, "evidence", wrapper=["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert is_running(step)
    (repository.root / "build" / "go").touch()
    process.communicate(timeout=60)
    assert [entry.passed for entry in read(repository).entries] == [True, True]


class Writes:
    """Lets the n-th write to a bundle fail: on a full disk before it, or cut off right after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cut_off: bool) -> None:
        self._left, self._cut_off = 0, cut_off
        for name in ("write_json", "write_whole", "move_whole"):
            monkeypatch.setattr(evidence, name, self._counted(getattr(evidence, name)))

    def _counted(self, write: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            self._left -= 1
            if self._left == 0 and not self._cut_off:
                raise ReleaseError(f"{arguments[0]} cannot be written (No space left on device).")
            write(*arguments)
            if self._left == 0:
                raise KeyboardInterrupt

        return counted

    @contextmanager
    def fails_at(self, n: int) -> Iterator[None]:
        self._left = n
        try:
            yield
        finally:
            self._left = 0


def every_write(writes: Writes, prepare: Callable[[], T], act: Callable[[T], object]) -> Iterator[int]:
    """Does `act` once for each of its writes, which fails; stops when it got through."""
    for n in range(1, 100):
        bundle = prepare()
        try:
            with writes.fails_at(n):
                act(bundle)
        except (ReleaseError, KeyboardInterrupt):
            yield n
        else:
            return


@pytest.mark.parametrize("cut_off", [False, True])
@pytest.mark.parametrize("is_mended", [False, True])
def test_a_retry_that_any_write_ends_leaves_a_bundle_that_goes_on(
    repository: Repository, steps: Steps, monkeypatch: pytest.MonkeyPatch, cut_off: bool, is_mended: bool
) -> None:
    name, mended = RECORDS[0], repository.root / "build" / "mended"
    mended.parent.mkdir()
    retried = make_step("two", "date +%s%N >&2; test -e build/mended; date +%s%N", output=name, keeps=(name,))
    steps(make_step("one", "echo fine"), retried)

    def failed() -> Bundle:
        mended.unlink(missing_ok=True)
        set_aside(repository)
        assert collect(Bundle.begin(repository), repository) is not None
        if is_mended:
            mended.touch()
        return read(repository)

    writes, n = Writes(monkeypatch, cut_off=cut_off), 0
    for n in every_write(writes, failed, lambda bundle: collect(bundle, repository)):
        bundle = Bundle.resume(repository)
        assert bundle.entries[0].step == "one", n
        mended.touch()
        assert collect(bundle, repository) is None, n
        assert [entry.step for entry in read(repository).entries] == ["one", "two"]
        read(repository).check_sums()
    assert n >= 5


@pytest.mark.parametrize("cut_off", [False, True])
def test_a_file_that_is_added_again_when_any_write_fails_leaves_a_bundle_that_reads(
    repository: Repository, steps: Steps, monkeypatch: pytest.MonkeyPatch, cut_off: bool
) -> None:
    steps(make_step("one", "true"))

    def added() -> Bundle:
        set_aside(repository)
        bundle = Bundle.begin(repository)
        bundle.add("notes.md", "one\n")
        return bundle

    writes, n = Writes(monkeypatch, cut_off=cut_off), 0
    for n in every_write(writes, added, lambda bundle: bundle.add("notes.md", "two\n")):
        bundle = read(repository)
        bundle.add("notes.md", "three\n")
        assert read(repository).digests["notes.md"] == sha256(bundle.folder / "notes.md"), n
    assert n >= 5


@pytest.mark.parametrize("cut_off", [False, True])
def test_a_bundle_that_could_not_begin_begins_again(
    repository: Repository, steps: Steps, monkeypatch: pytest.MonkeyPatch, cut_off: bool
) -> None:
    steps(make_step("one", "true"))

    def nothing() -> None:
        set_aside(repository)
        write(Bundle.folder_of(repository) / ".bundle.json.killed", "{")

    writes, n = Writes(monkeypatch, cut_off=cut_off), 0
    for n in every_write(writes, nothing, lambda _: Bundle.begin(repository)):
        bundle = Bundle.resume(repository)
        assert collect(bundle, repository) is None, n
    assert n == 2


def test_a_bundle_without_its_list_is_not_begun_over(repository: Repository, steps: Steps) -> None:
    """Its logs would be lost, one after another."""
    steps(make_step("one", "echo fine"))
    collect(Bundle.begin(repository), repository)
    (Bundle.folder_of(repository) / "bundle.json").unlink()
    with pytest.raises(ReleaseError, match=r"bundle\.json is missing.*--fresh"):
        Bundle.resume(repository)


def test_a_changed_log_is_noticed(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "echo 3 failed"))
    collect(Bundle.begin(repository), repository)
    (read(repository).folder / "logs" / "01-one.log").write_text("0 failed\n")
    with pytest.raises(ReleaseError, match=r"01-one\.log was changed after it was recorded"):
        read(repository)


def test_a_changed_entry_is_noticed(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "exit 3"))
    collect(Bundle.begin(repository), repository)
    file = Bundle.folder_of(repository) / "bundle.json"
    file.write_text(file.read_text().replace('"exit_status": 3', '"exit_status": 0'))
    with pytest.raises(ReleaseError, match=r"bundle\.json was changed after it was recorded"):
        read(repository)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 2, "digest": "", "steps": [{}], "files": {}}', "[" * 99_999]
)
def test_a_damaged_bundle_is_a_sentence(repository: Repository, steps: Steps, text: str) -> None:
    steps(make_step("one", "true"))
    bundle = Bundle.begin(repository)
    (bundle.folder / "bundle.json").write_text(text)
    with pytest.raises(ReleaseError, match=r"bundle\.json is damaged"):
        read(repository)


def test_a_missing_log_is_noticed(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "true"))
    collect(Bundle.begin(repository), repository)
    (read(repository).folder / "logs" / "01-one.log").unlink()
    with pytest.raises(ReleaseError, match="is missing: the evidence is incomplete"):
        read(repository)


def test_changed_checksums_are_noticed(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "true"))
    collect(Bundle.begin(repository), repository)
    (read(repository).folder / "SHA256SUMS").write_text("")
    with pytest.raises(ReleaseError, match="SHA256SUMS does not list what"):
        read(repository).check_sums()


def test_a_dirty_tree_has_no_evidence(repository: Repository) -> None:
    write(repository.root / "untracked.py", "")
    with pytest.raises(ReleaseError, match=r"The tree has changes \(untracked\.py\)"):
        Bundle.begin(repository)
    assert not Bundle.folder_of(repository).exists()


@pytest.mark.parametrize(
    ("changed", "told"), [((), "tree clean"), (RECORDS[:2], f"tree changed in {RECORDS[1]}, {RECORDS[0]}")]
)
def test_what_the_tree_was_is_recorded_and_told(
    repository: Repository, steps: Steps, changed: Sequence[str], told: str
) -> None:
    for name in changed:
        change_baseline(repository.root / name, {"peak_rss_bytes": 1.01})
    steps(make_step("one", "git checkout .", keeps=tuple(BASELINES.values())))
    collect(Bundle.begin(repository), repository)
    bundle = read(repository)
    assert bundle.about["changes"] == sorted(changed)
    write_evidence_page(bundle)
    assert f", {told}, begun " in (bundle.folder / NOTES).read_text()


def test_a_step_that_changes_other_files_ends_the_run(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "echo x > stray.txt"), make_step("two", "true"))
    with pytest.raises(ReleaseError, match=r"The tree has changes \(stray\.txt\)"):
        collect(Bundle.begin(repository), repository)


def test_output_replaces_its_file_only_when_the_command_has_ended_well(repository: Repository, steps: Steps) -> None:
    name = RECORDS[0]
    before = (repository.root / name).read_bytes()
    steps(make_step("one", "echo half; exit 1", output=name, keeps=(name,)))
    collect(Bundle.begin(repository), repository)
    assert (repository.root / name).read_bytes() == before
    steps(make_step("one", "echo whole; echo progress >&2", output=name, keeps=(name,)))
    assert collect(read(repository), repository) is None
    assert (repository.root / name).read_text() == "whole\n"
    bundle = read(repository)
    assert (bundle.folder / "files" / Path(name).name).read_text() == "whole\n"
    assert (bundle.folder / "logs" / "01-one.log").read_text() == "progress\n"


def test_evidence_of_another_commit_is_refused(repository: Repository) -> None:
    bundle = Bundle.begin(repository)
    write(repository.root / "new.py", "")
    commit(repository.root, "other")
    with pytest.raises(ReleaseError, match=rf"is of commit {bundle.commit[:12]}, .* differ in new\.py"):
        bundle.check_current(repository)


def test_evidence_holds_for_the_commit_of_its_own_records(repository: Repository) -> None:
    bundle = Bundle.begin(repository)
    (repository.root / RECORDS[0]).write_text("{}\n")
    commit(repository.root, "baselines")
    bundle.check_current(repository)


def test_old_evidence_is_refused(repository: Repository) -> None:
    bundle = Bundle.begin(repository)
    long_ago = datetime.now(timezone.utc) - timedelta(days=evidence.MAX_AGE_DAYS, minutes=1)
    old = Bundle(bundle.folder, {**bundle.about, "begun": long_ago.isoformat()})
    with pytest.raises(ReleaseError, match="The evidence is 14 days old"):
        old.check_current(repository)


def test_fresh_evidence_keeps_what_there_was(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "echo first"))
    collect(Bundle.begin(repository), repository)
    aside = set_aside(repository)
    assert aside is not None
    assert Bundle.read(aside).entry("one") is not None
    assert not Bundle.folder_of(repository).exists()
    assert set_aside(repository) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or sys.platform != "linux", reason="mounts a full disk")
def test_a_full_disk_is_a_sentence_and_loses_nothing(repository: Repository, steps: Steps) -> None:
    folder = repository.root / "evidence"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this system lets not even root mount: a container without the right to")
    try:
        steps(make_step("one", "echo fine"), make_step("two", "head -c 1000000 /dev/zero"))
        bundle = Bundle.begin(repository)
        with pytest.raises(ReleaseError, match="cannot be written"):
            collect(bundle, repository)
        assert [entry.step for entry in read(repository).entries] == ["one"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_reading_evidence_changes_nothing(repository: Repository, steps: Steps) -> None:
    steps(make_step("one", "true"))
    collect(Bundle.begin(repository), repository)
    before = snapshot(repository.root), (Bundle.folder_of(repository) / "bundle.json").read_bytes()
    read(repository).check_sums()
    assert before == (snapshot(repository.root), (Bundle.folder_of(repository) / "bundle.json").read_bytes())
    assert git(repository.root, "status", "--short") == ""
    assert json.loads(before[1])["version"] == "0.1.0"
