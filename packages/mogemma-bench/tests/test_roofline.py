from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from mogemma import OutOfMemoryError, Roofline
from mogemma_bench.cli import main
from mogemma_bench.errors import BenchError
from mogemma_bench.roofline import RooflineResult, measure_rooflines, roofline

LINE = Roofline(1, "some_level", 35e9, 230e9, 115e9, 57.5e9)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose figures are known; the library's own tests measure the real one."""

    def measure(threads: int | None) -> Roofline:
        return replace(LINE, threads=threads or 2, int8_macs_per_s=230e9 * (threads or 2))

    monkeypatch.setattr("mogemma_bench.roofline.measure_roofline", measure)


def test_one_thread_and_all_of_them_are_measured_unless_asked_otherwise() -> None:
    assert [line.threads for line in measure_rooflines(()).rooflines] == [1, 2]
    assert [line.threads for line in measure_rooflines((3, 1)).rooflines] == [3, 1]


def test_the_document_has_a_roofline_for_each_number_of_threads() -> None:
    result = CliRunner().invoke(main, ["roofline", "--threads", "1", "--threads", "2"])
    document = json.loads(result.stdout)
    assert document["mode"] == "roofline"
    assert [line["int8_macs_per_s"] for line in document["rooflines"]] == [230e9, 460e9]
    assert document["environment"]["cpu_level"] == "some_level"


def test_what_the_processor_lacks_is_null_and_a_dash() -> None:
    without = replace(LINE, bfloat16_macs_per_s=None)
    rows = RooflineResult("roofline", (without, LINE), measure_rooflines(()).environment).rows()
    assert ("bfloat16 products, GMAC/s", "-", "115.0") in rows


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma_bench.commands.roofline.wants_json", lambda _: False)
    shown = CliRunner().invoke(main, ["roofline", "--threads", "1"]).stdout
    for words in ("1 thread", "read from memory", "35.0", "int8 products", "230.0", "some_level"):
        assert words in shown


@pytest.mark.parametrize("threads", ["0", "257", "many"])
def test_threads_that_cannot_be_are_refused(threads: str) -> None:
    result = CliRunner().invoke(main, ["roofline", "--threads", threads])
    assert (result.exit_code, result.stdout) == (2, "")


def test_options_of_the_measurement_do_not_go_before_a_command() -> None:
    result = CliRunner().invoke(main, ["--threads", "2", "roofline"])
    assert result.exit_code == 2
    assert "Options of roofline go behind its name." in result.stderr


def test_a_machine_without_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: int | None) -> Roofline:
        raise OutOfMemoryError("The system gives no 268 MB.")

    monkeypatch.setattr("mogemma_bench.roofline.measure_roofline", measure)
    with pytest.raises(BenchError, match="gives no 268 MB"):
        roofline(1)
    result = CliRunner().invoke(main, ["roofline"])
    assert (result.exit_code, result.stdout) == (1, "")
