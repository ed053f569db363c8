from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mogemma_bench import parts
from mogemma_bench.errors import BenchError
from mogemma_bench.parts import Parts, assemble, installed

CONTENT = bytes(range(256)) * 10
PARTS = Parts(
    name="whole.gguf",
    packages=("fake-model-part1", "fake-model-part2", "fake-model-part3"),
    endings=(".part00", ".part01", ".part02"),
    n_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
"""What the packages of `install` make up."""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lays packages out as pip does; their code ends the test if anything imports it."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(**pieces: bytes) -> None:
        for package, piece in pieces.items():
            number = int(package[-1]) - 1
            data = f"{package}/data/whole.gguf.part{number:02d}"
            (site / package / "data").mkdir(parents=True)
            (site / data).write_bytes(piece)
            (site / package / "__init__.py").write_text("raise SystemExit('code of a model package ran')")
            info = site / f"{package}-1.0.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0.0\n"
            )
            (info / "RECORD").write_text(
                f"{data},,\n{package}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n"
            )

    return install


def pieces(content: bytes) -> dict[str, bytes]:
    return {f"fake_model_part{n + 1}": content[1000 * n : 1000 * (n + 1)] for n in range(3)}


def test_parts_that_are_installed_become_the_whole_file(tmp_path: Path, install: Install) -> None:
    install(**pieces(CONTENT))
    files = installed(PARTS)
    assert files is not None
    whole = assemble(PARTS, files, tmp_path / "models")
    assert whole == tmp_path / "models" / "whole.gguf"
    assert whole.read_bytes() == CONTENT
    assert [file.name for file in whole.parent.iterdir()] == ["whole.gguf"]
    assert whole.stat().st_mode & 0o777 == 0o644


def test_a_package_that_is_not_installed_means_there_are_no_parts(install: Install) -> None:
    whole = pieces(CONTENT)
    del whole["fake_model_part2"]
    install(**whole)
    assert installed(PARTS) is None


def test_a_package_without_its_data_is_an_error_that_names_it(tmp_path: Path, install: Install) -> None:
    install(**pieces(CONTENT))
    (tmp_path / "site-packages/fake_model_part3/data/whole.gguf.part02").unlink()
    with pytest.raises(BenchError, match=r"fake-model-part3 is installed without its data file \(\*\.part02\)"):
        installed(PARTS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(CONTENT[:-1], "2,559 bytes, not 2,560"), (CONTENT[:-1] + b"?", "SHA-256 is [0-9a-f]{64}, not")],
)
def test_wrong_parts_are_refused_and_leave_nothing_behind(
    tmp_path: Path, install: Install, content: bytes, complaint: str
) -> None:
    install(**pieces(content))
    models = tmp_path / "models"
    models.mkdir()
    with pytest.raises(BenchError, match=complaint):
        assemble(PARTS, installed(PARTS) or [], models)
    assert list(models.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    install(**pieces(CONTENT))
    monkeypatch.setattr(parts, "_join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        assemble(PARTS, installed(PARTS) or [], tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []
