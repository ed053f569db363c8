from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mogemma_release.artifacts import pythons as found_pythons
from mogemma_release.artifacts import smoke
from mogemma_release.artifacts.pythons import pythons
from mogemma_release.cli import main
from mogemma_release.errors import ReleaseError
from mogemma_release.matrix import PLATFORMS
from mogemma_release.repository import Repository

OURS = next((platform for platform in PLATFORMS if platform.name == smoke._this_platform()), PLATFORMS[0])


@pytest.fixture
def one_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "pythons", lambda: {sys.version_info[:2]: Path(sys.executable)})


def wheel(folder: Path, tag: str) -> Path:
    file = folder / f"mogemma-0.1.0-py3-none-{tag}.whl"
    file.write_bytes(b"PK")
    return file


def test_this_python_is_among_those_that_are_found() -> None:
    found = pythons()
    assert found[sys.version_info[:2]] == Path(sys.executable)
    assert all(version >= (3, 10) for version in found)


def test_what_is_no_python_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2; exit 127\n")
    shim.chmod(0o755)
    monkeypatch.setattr(found_pythons, "_candidates", lambda: iter([shim, tmp_path / "none", Path(sys.executable)]))
    assert pythons() == {sys.version_info[:2]: Path(sys.executable)}


def test_what_cannot_be_run_here_is_named_with_the_reason(
    repository: Repository, tmp_path: Path, one_python: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "_this_platform", lambda: "linux-x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("shutil.which", lambda _name: None)
    mac, arm = wheel(tmp_path, "macosx_11_0_arm64"), wheel(tmp_path, "manylinux_2_17_aarch64")
    told = {check.artifact: check for check in smoke.smoke(repository, tmp_path, None)}
    assert (told[mac.name].passed, told[mac.name].detail) == (None, "this machine is linux-x86_64")
    assert told[arm.name].passed is None
    assert "no qemu-aarch64" in told[arm.name].detail


def test_a_wheel_that_cannot_be_installed_is_a_failure(
    repository: Repository, tmp_path: Path, one_python: None
) -> None:
    wheel(tmp_path, OURS.wheel_tag)
    (check,) = smoke.smoke(repository, tmp_path, None)
    assert check.passed is False
    assert "status" in check.detail


def test_a_wheel_for_nobody_is_a_failure(repository: Repository, tmp_path: Path, one_python: None) -> None:
    wheel(tmp_path, "win_amd64")
    (check,) = smoke.smoke(repository, tmp_path, None)
    assert check.passed is False


def test_nothing_run_is_no_success(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOGEMMA_REQUIRE_REAL_MODELS", raising=False)
    other = next(platform for platform in reversed(PLATFORMS) if platform.system != OURS.system)
    wheel(tmp_path, other.wheel_tag)
    done = CliRunner().invoke(main, ["smoke", "--root", str(repository.root), str(tmp_path)])
    assert done.exit_code == 1
    assert "not run" in done.stdout


def test_an_empty_folder_is_a_sentence(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="holds no sdist and no wheel"):
        list(smoke.smoke(repository, tmp_path / "none", None))


def test_a_required_model_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOGEMMA_MODELS", str(tmp_path))
    monkeypatch.delenv("MOGEMMA_REQUIRE_REAL_MODELS", raising=False)
    assert smoke.find_model() is None
    monkeypatch.setenv("MOGEMMA_REQUIRE_REAL_MODELS", "1")
    with pytest.raises(ReleaseError, match=r"fetch_models\.py"):
        smoke.find_model()
