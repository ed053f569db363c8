"""The table says what the comparisons say, and a page that says something else is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from performance_table import END, START, main, page_with, table

SPREAD = {"median": 100.4, "min": 90.0, "max": 110.0, "samples": [100.4, 90.0, 110.0]}
TIMES = {"median": 0.25, "min": 0.2, "max": 0.3, "samples": [0.25]}


def measured(share: float | None) -> dict[str, Any]:
    return {
        "arithmetic": "int8",
        "seconds": TIMES,
        "tokens_per_second": SPREAD,
        "share": share,
        "peak_rss_bytes": 300_000_000,
    }


def result() -> dict[str, Any]:
    ratio = {"median": 1.5, "min": 1.4, "max": 1.6, "samples": [1.5]}
    works = [
        {
            "workload": "decode",
            "threads": 2,
            "tokens": 128,
            "engines": {"mogemma": measured(0.8), "other": measured(0.5)},
        },
        {"workload": "cold-start", "threads": 1, "tokens": 6, "engines": {"mogemma": measured(None)}},
    ]
    works[0]["ratios"], works[1]["ratios"] = {"other": ratio}, {}
    here = {
        "processor": "Some CPU",
        "cores": 2,
        "cpu_level": "x",
        "python": "CPython 3",
        "measured_at": "2026-11-26T00:00",
    }
    return {
        "works": works,
        "environment": here,
        "model": {"name": "a.gguf"},
        "rounds": 7,
        "versions": {"mogemma": "1", "other": "2"},
    }


def test_each_engine_has_a_line_with_its_ratio() -> None:
    lines = table([result()]).splitlines()
    assert lines[0].startswith("a.gguf, mogemma in int8, 7 rounds, Some CPU, 2 cores")
    assert lines[4] == "| decode, 128 tokens, 2 threads | **mogemma** | 100 tokens/s | 90 to 110 | 80% |  | 300 MB |"
    assert lines[5] == "|  | other | 100 tokens/s | 90 to 110 | 50% | 1.50 x (1.40 to 1.60) | 300 MB |"


def test_what_one_waits_for_is_in_milliseconds() -> None:
    assert "| cold-start, 6 tokens, 1 thread | **mogemma** | 250.0 ms | 200.0 to 300.0 |" in table([result()])


def test_only_what_is_between_the_marks_changes() -> None:
    assert page_with(f"a\n{START}\nold\n{END}\nb", "new") == f"a\n{START}\n\nnew\n\n{END}\nb"
    with pytest.raises(ValueError, match="lacks"):
        page_with("a page without marks", "new")


def test_a_page_that_says_something_else_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "comparison-generation.json").write_text(json.dumps(result()))
    (docs / "performance.md").write_text(f"{START}\n{END}\n")
    assert main(["--check", str(tmp_path)]) == 1
    assert "run tools/performance_table.py" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
