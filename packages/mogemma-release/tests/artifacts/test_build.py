from __future__ import annotations

import errno
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from throwaway import commit, git

from mogemma_release.artifacts import build
from mogemma_release.artifacts.build import Conditions, build_artifacts, put_folder
from mogemma_release.cli import main
from mogemma_release.errors import ReleaseError
from mogemma_release.matrix import PLATFORMS
from mogemma_release.repository import Repository

pytestmark = pytest.mark.timeout(900)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_one_machine_builds_the_sdist_and_a_wheel_for_every_platform(finished: Path) -> None:
    tags = {platform.wheel_tag for platform in PLATFORMS}
    names = {path.name for path in finished.iterdir()}
    wheels = {name for name in names if name.endswith(".whl")}
    assert {name.removesuffix(".whl").partition("-py3-none-")[2] for name in wheels} == tags
    assert {name.partition("-")[0] for name in names - wheels} == {"SHA256SUMS", "mogemma"}


def test_the_sums_are_what_sha256sum_checks(finished: Path) -> None:
    lines = (finished / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == len(PLATFORMS) + 1
    for line in lines:
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((finished / name).read_bytes()).hexdigest() == digest


def test_a_build_that_fails_leaves_what_was_there(small: Repository, finished: Path, tmp_path: Path) -> None:
    broken = Repository(tmp_path / "broken")
    git(tmp_path, "clone", "--quiet", str(small.root), str(broken.root))
    git(broken.root, "config", "user.name", "Ada")
    git(broken.root, "config", "user.email", "ada@example.org")
    (broken.root / "mojo/src/ops/twice.mojo").write_text("def twice(x: Float32) -> Float32:\n    return y\n")
    commit(broken.root, "wrong")
    out = Path(shutil.copytree(finished, tmp_path / "dist"))
    with pytest.raises(ReleaseError, match=r"(?s)wheel for macos-arm64 cannot be built.*twice\.mojo"):
        build_artifacts(broken, out, PLATFORMS[3:])
    assert contents(out) == contents(finished)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_build_that_hangs_is_ended(small: Repository, tmp_path: Path) -> None:
    slow = Conditions(prefix=["sh", "-c", 'sleep 600; exec "$@"', "sh"], limit_seconds=1)
    with pytest.raises(ReleaseError, match="took longer than 1 s"):
        build_artifacts(small, tmp_path / "dist", PLATFORMS[3:], slow)
    assert not (tmp_path / "dist").exists()


def test_a_full_disk_leaves_what_was_there(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "dist"))

    def full(_source: str, _target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "_copy_readable", full)
    with pytest.raises(ReleaseError, match="cannot be written"):
        put_folder(finished, out)
    assert contents(out) == contents(finished)
    assert [path.name for path in tmp_path.iterdir()] == ["dist"]


def test_a_folder_with_other_things_in_it_is_not_replaced(small: Repository, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("of three years")
    with pytest.raises(ReleaseError, match=r"holds thesis\.txt"):
        build_artifacts(small, tmp_path, PLATFORMS[3:])
    assert (tmp_path / "thesis.txt").exists()


def test_the_command_says_what_it_built_and_what_it_left_out(small: Repository, tmp_path: Path) -> None:
    options = ["--json", "--platform", "macos-arm64", "--root", str(small.root), "--out", str(tmp_path / "dist")]
    done = CliRunner().invoke(main, ["build", *options])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["commit"] == small.commit
    assert sorted(said["sha256"]) == sorted(path.name for path in (tmp_path / "dist").iterdir() if path.suffix != "")
    assert "packages/mogemma/src/mogemma/left_over.py" in said["left_out"]
