from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from mogemma_release.artifacts import reproduce as artifacts_reproduce
from mogemma_release.artifacts.build import Conditions
from mogemma_release.artifacts.reproduce import compare, own_account, reproduce
from mogemma_release.cli import main
from mogemma_release.errors import ReleaseError
from mogemma_release.matrix import PLATFORMS
from mogemma_release.repository import Repository


@pytest.mark.timeout(1500)
def test_two_builds_with_nothing_in_common_give_the_same_bytes(whole: Repository) -> None:
    """The real kernel at one level, and the sdist; `release reproduce` does the same with all of them."""
    found = reproduce(whole, PLATFORMS[:1], levels="x86_64_v3")
    assert [one.name.rpartition(".")[2] for one in found] == ["whl", "gz"]
    assert [one.account for one in found] == ["", ""]
    assert all(one.same for one in found)


@pytest.mark.parametrize(
    ("installed", "other"),
    [
        ("", None),
        ("C C.utf8 POSIX", None),
        ("C POSIX tr_TR de_DE.iso88591", None),
        ("C.utf8 de_DE.utf8 en_GB.utf8 fa_IR.utf8 tr_TR tr_TR.utf8", "tr_TR.utf8"),
        ("C.utf8 de_DE.utf8 en_GB.utf8 fa_IR.utf8", "fa_IR.utf8"),
        ("C.UTF-8 en_GB.UTF-8 de_DE.UTF-8@euro", "de_DE.UTF-8@euro"),
        ("C.UTF-8 en_GB.UTF-8", "en_GB.UTF-8"),
    ],
)
def test_the_second_locale_is_one_that_is_installed(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, other: str | None
) -> None:
    tool = tmp_path / "bin" / "locale"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nprintf '%s\\n' {installed}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    conditions: list[Conditions] = []

    def build(_repository: Repository, _out: Path, _platforms: object, of: Conditions, _report: object) -> None:
        conditions.append(of)

    monkeypatch.setattr(artifacts_reproduce, "build_artifacts", build)
    result = CliRunner().invoke(main, ["reproduce", "--root", str(repository.root)])
    assert [of.variables["LC_ALL"] for of in conditions] == ["C.UTF-8", other or "C"]
    assert result.stdout.startswith(f"locales: C and {other}\n" if other else "locales: only C here")
    result = CliRunner().invoke(main, ["reproduce", "--json", "--root", str(repository.root)])
    assert json.loads(result.stdout)["other_locale"] == other


@pytest.mark.timeout(900)
def test_where_two_builds_differ_is_told(dist: Path, finished: Path) -> None:
    (wheel,) = dist.glob("*macosx_11_0_arm64.whl")
    with zipfile.ZipFile(wheel) as archive:
        contents = {entry: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for entry, content in contents.items():
            if entry.filename.endswith("errors.py"):
                entry.date_time = (1999, 1, 1, 0, 0, 0)
            archive.writestr(entry, content + b"#" if entry.filename.endswith("cpu.py") else content)
    (different,) = [one for one in compare(finished, dist) if not one.same]
    assert different.name == wheel.name
    told = own_account(finished / wheel.name, wheel)
    assert "mogemma/cpu.py differs from byte" in told
    assert "(1999, 1, 1, 0, 0, 0)" in told


@pytest.mark.timeout(900)
def test_the_same_contents_compressed_otherwise_are_told_apart(dist: Path, finished: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    sdist.write_bytes(gzip.compress(gzip.decompress(sdist.read_bytes()), 1, mtime=0))
    assert "only the compression differs" in own_account(finished / sdist.name, sdist)


@pytest.mark.timeout(900)
def test_an_artifact_of_only_one_build_is_an_error(dist: Path, finished: Path) -> None:
    next(dist.glob("*.whl")).unlink()
    with pytest.raises(ReleaseError, match="Only one of the two builds made"):
        list(compare(finished, dist))


@pytest.mark.timeout(900)
def test_diffoscope_is_asked_where_it_is_installed(
    dist: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "diffoscope"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho told by diffoscope of "$4"; exit 1\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    (sdist,) = dist.glob("*.tar.gz")
    shutil.copy(next(dist.glob("*.whl")), sdist)
    (different,) = [one for one in compare(finished, dist) if not one.same]
    assert different.account == f"told by diffoscope of {sdist}"
