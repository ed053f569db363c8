"""The runner of the Mojo tests, tried on tests of one line."""

from __future__ import annotations

import sysconfig
from typing import TYPE_CHECKING

import pytest

import mojo_test

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """from std.testing import TestSuite, assert_equal

from numbers import one


def test_one() raises:
    assert_equal(one(), {expected})


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
"""


@pytest.fixture
def mojo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernels: one function, and no test yet."""
    folder = tmp_path / "mojo"
    (folder / "src").mkdir(parents=True)
    (folder / "tests" / "ops").mkdir(parents=True)
    (folder / "src" / "numbers.mojo").write_text("def one() -> Int:\n    return 1\n", encoding="utf-8")
    monkeypatch.setattr(mojo_test, "MOJO", folder)
    return folder


def write(mojo: Path, name: str, expected: int) -> Path:
    file = mojo / "tests" / "ops" / name
    file.write_text(SUITE.replace("{expected}", str(expected)), encoding="utf-8")
    return file


def test_one_failure_among_all_fails_the_run_and_shows_what_was_found(
    mojo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(mojo, "test_good.mojo", 1)
    write(mojo, "test_bad.mojo", 2)
    assert mojo_test.main([]) == 1
    output = capsys.readouterr().out
    assert "ok     mojo/tests/ops/test_good.mojo" in output
    assert "FAILED mojo/tests/ops/test_bad.mojo" in output
    assert "left: 1" in output
    assert "1 of 2 files of Mojo tests passed" in output


def test_a_file_can_be_run_alone(mojo: Path) -> None:
    write(mojo, "test_bad.mojo", 2)
    assert mojo_test.main([str(write(mojo, "test_good.mojo", 1))]) == 0


def test_a_test_that_does_not_compile_fails(mojo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mojo / "tests" / "test_broken.mojo").write_text("def main(:\n", encoding="utf-8")
    assert mojo_test.main([]) == 1
    assert "error:" in capsys.readouterr().out


def test_no_tests_at_all_are_an_error(mojo: Path) -> None:
    with pytest.raises(SystemExit, match="no test"):
        mojo_test.main([])


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(SystemExit, match="install mojo-compiler"):
        mojo_test.find_compiler()
