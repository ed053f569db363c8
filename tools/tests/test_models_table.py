"""The page about models says what the code and the tiny checkpoints do; what it says otherwise is found."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import models_table
from models_table import ROWS, START, TINY, Measured, Row, main, measure, rounded_up, troubles
from performance_table import END

REPOSITORY = Path(__file__).resolve().parents[2]
CASE = "gemma2-qpas"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one checkpoint, and a table of as many rows as families."""
    shutil.copytree(REPOSITORY / TINY / CASE, tmp_path / TINY / CASE)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "models.md").write_text(f"before\n{START}\n{END}\nafter\n")
    rows = [Row(row.module, row.models, row.runs, (CASE,) if row.module == "gemma2" else ()) for row in ROWS]
    monkeypatch.setattr(models_table, "ROWS", rows)
    return tmp_path


def sound(error: float = 1e-6) -> list[Measured]:
    return [Measured(case, "logits", 1e-4, {"GGUF": error}) for row in ROWS for case in row.cases]


@pytest.mark.parametrize(
    ("error", "shown"),
    [(3.2e-6, "4e-06"), (3e-6, "3e-06"), (9.1e-6, "1e-05"), (1e-5, "1e-05"), (2.0000000001e-5, "2e-05"), (0.0, "0")],
)
def test_errors_are_rounded_upwards(error: float, shown: str) -> None:
    assert rounded_up(error) == shown


def test_an_error_is_that_of_the_whole_model(small: Path) -> None:
    """One golden logit that is off by 0.5 shows."""
    file = small / TINY / CASE / "golden.npz"
    with np.load(file) as arrays:
        golden = dict(arrays)
    assert 0 < measure(file.parent).worst < 1e-4
    golden["logits"][3, 7] += 0.5
    np.savez(file, **golden)
    assert measure(file.parent).worst == pytest.approx(0.5, abs=1e-4)
    assert main([str(small)]) == 1, "the page is not made of it"
    assert (small / "docs" / "models.md").read_text() == f"before\n{START}\n{END}\nafter\n"


def test_a_page_that_says_something_else_is_found(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(small)]) == 1
    assert "run tools/models_table.py" in capsys.readouterr().out
    assert main([str(small)]) == 0
    assert main(["--check", str(small)]) == 0
    page = (small / "docs" / "models.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert f"| {CASE} | logits |" in page


@pytest.mark.parametrize("error", [2e-4, math.nan, math.inf])
def test_an_error_that_passes_its_tolerance_is_one(error: float) -> None:
    assert list(troubles(sound())) == []
    assert len(list(troubles(sound(error)))) == len(sound())


def test_each_checkpoint_and_each_family_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    stray = Measured("gemma9", "logits", 1e-4, {"GGUF": 0.0})
    assert list(troubles([*sound(), stray])) == ["gemma9: no row of tools/models_table.py has it."]
    assert "the tests have no checkpoint" in "".join(troubles(sound()[1:]))
    monkeypatch.setattr(models_table, "ROWS", ROWS[:-1])
    assert "embeddinggemma2: this family has no row in tools/models_table.py." in list(troubles(sound()))
