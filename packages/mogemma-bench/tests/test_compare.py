from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rival_fakes import PACKAGES, executable, llama_bench, python_with

from mogemma import Roofline
from mogemma_bench.cli import main
from mogemma_bench.compare.child import start, stopped_by_signals
from mogemma_bench.compare.result import work_of
from mogemma_bench.compare.rival import Sample
from mogemma_bench.engine import Facts, Precision

TINY = Path(__file__).parents[3] / "packages/mogemma/tests/data/tiny/gemma3-text/model.gguf"
EMBEDDING = TINY.parents[1] / "embeddinggemma"
SHORT = ("--prompt-tokens", "24", "--max-new-tokens", "6", "--rounds", "2")
FACTS = Facts("gemma3", "Q8_0", Precision("int8"), "int8", 64, 1, "some_level", 100_000_000, 75_000_000, 178_000_000)
LINE = Roofline(1, "some_level", 40e9, 400e9, 200e9, 100e9)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limits are measured once a round in a process of its own: for a second, which these tests do not have."""
    monkeypatch.setattr("mogemma_bench.compare.comparison.roofline_apart", lambda n: replace(LINE, threads=n))


def compare(*arguments: str, model: Path = TINY) -> Result:
    return CliRunner().invoke(main, ["compare", "--model", str(model), *SHORT, *arguments])


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def complaint(result: Result, status: int = 1) -> str:
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def calls(folder: Path) -> list[list[str]]:
    """Name and arguments of each call of a fake llama-bench, but for the look at its manual."""
    lines = (folder / "calls").read_text().splitlines()
    return [line.split() for line in lines if "--help" not in line]


# --- turn about


def test_rivals_take_turns_in_every_round_after_one_to_warm_up(tmp_path: Path) -> None:
    one, two = llama_bench(tmp_path), llama_bench(tmp_path, "ik-llama-bench")
    document(
        compare("--rival", f"llama-bench={one}", "--rival", f"ik-llama-bench={two}", "--workload", "prefill,decode")
    )
    a_round = ["llama-bench", "ik-llama-bench"] * 2
    assert [call[0] for call in calls(tmp_path)] == 3 * a_round


def test_a_program_gets_the_same_file_lengths_and_threads(tmp_path: Path) -> None:
    rival = llama_bench(tmp_path)
    arguments = ("--rival", f"llama-bench={rival}", "--rival-args", "llama-bench=-fa 1 -x 'a b'", "--rounds", "1")
    document(compare(*arguments, "--threads", "1", "--threads", "2"))
    shown = [" ".join(call) for call in calls(tmp_path)]
    common = f"llama-bench -m {TINY} -t {{}} -r 1 -o json -fa 1 -x a b"
    for threads in (1, 2):
        for lengths in ("-p 24 -n 0", "-p 0 -n 6"):
            assert shown.count(f"{common.format(threads)} {lengths}") == 2
    assert sum(line.endswith("--no-warmup") for line in shown) == 4


def test_the_document_has_samples_shares_and_ratios_of_all(tmp_path: Path) -> None:
    found = document(compare("--rival", f"llama-bench={llama_bench(tmp_path)}"))
    assert (found["mode"], found["rounds"]) == ("compare generation", 2)
    assert found["versions"]["llama-bench"] == "abc (7)"
    assert len(found["model"]["sha256"]) == 64
    assert [work["workload"] for work in found["works"]] == ["prefill", "decode", "cold-start"]
    for work in found["works"]:
        ours, theirs = work["engines"]["mogemma"], work["engines"]["llama-bench"]
        pairs = zip(ours["seconds"]["samples"], theirs["seconds"]["samples"], strict=True)
        assert work["ratios"]["llama-bench"]["samples"] == pytest.approx([b / a for a, b in pairs])
        assert len(work["rooflines"]) == found["rounds"] == 2
    prefill, decode, _ = found["works"]
    assert prefill["engines"]["llama-bench"]["tokens_per_second"]["median"] == pytest.approx(1000)
    assert (prefill["tokens"], decode["tokens"]) == (24, 6)
    assert prefill["engines"]["mogemma"]["peak_rss_bytes"] > 10e6


def test_a_cold_start_is_timed_from_outside_and_from_the_start_of_the_process(tmp_path: Path) -> None:
    """What the program itself claims is without starting it."""
    rival = llama_bench(tmp_path, code="time.sleep(0.3)")
    found = document(compare("--rival", f"llama-bench={rival}", "--workload", "cold-start,prefill", "--rounds", "1"))
    cold, prefill = found["works"]
    assert cold["engines"]["llama-bench"]["seconds"]["min"] > 0.3
    assert cold["engines"]["mogemma"]["seconds"]["min"] > 0.05
    assert prefill["engines"]["llama-bench"]["seconds"]["max"] < 0.1
    assert cold["engines"]["llama-bench"]["limit_tokens_per_second"] is None


def test_a_program_that_always_warms_up_has_no_cold_start(tmp_path: Path) -> None:
    rival = llama_bench(tmp_path)
    rival.write_text(rival.read_text().replace("usage: --no-warmup", "usage: nothing"))
    *_, cold = document(compare("--rival", f"llama-bench={rival}", "--rounds", "1"))["works"]
    assert list(cold["engines"]) == ["mogemma"]


def test_without_rivals_mogemma_is_measured_alone() -> None:
    found = document(compare("--workload", "decode"))
    (work,) = found["works"]
    assert (list(work["engines"]), work["ratios"]) == (["mogemma"], {})


def test_people_get_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma_bench.commands.compare.wants_json", lambda _: False)
    monkeypatch.setenv("COLUMNS", "200")
    shown = compare("--rival", f"llama-bench={llama_bench(tmp_path)}", "--workload", "prefill").stdout
    for words in ("prefill, 24 tokens, 1 thread", "llama-bench", "1,000.0 tokens/s", "x as fast (", "abc (7)"):
        assert words in shown


# --- figures


def samples(*seconds: float) -> list[Sample]:
    return [Sample(100, one) for one in seconds]


def test_a_ratio_is_the_median_of_what_was_in_each_round() -> None:
    """Not the ratio of medians: a machine that slows down in the middle slows both."""
    taken = {"mogemma": samples(1, 2, 8), "other": samples(3, 3, 32)}
    work = work_of("prefill", dict.fromkeys(taken, FACTS), [LINE], taken, dict.fromkeys(taken, 0))
    ratio = work.ratios["other"]
    assert list(ratio.samples) == [3, 1.5, 4]
    assert [ratio.median, ratio.min, ratio.max] == [3, 1.5, 4], "the ratio of the medians would be 1.5"


@pytest.mark.parametrize(
    ("workload", "arithmetic", "limit"),
    [
        ("prefill", "int8", 400e9 / FACTS.layer_weights),
        ("embed", "bfloat16", 200e9 / FACTS.layer_weights),
        ("decode", "int8", 40e9 / (FACTS.layer_bytes + FACTS.head_bytes)),
        ("query", "int8", None),
        ("cold-start", "int8", None),
    ],
)
def test_the_limit_is_that_of_the_work_and_of_the_engines_arithmetic(
    workload: Any, arithmetic: str, limit: float | None
) -> None:
    limits = [
        replace(LINE, int8_macs_per_s=x, bfloat16_macs_per_s=x / 2, read_bytes_per_s=x / 10) for x in (1e9, 400e9, 9e12)
    ]
    facts = {"mogemma": replace(FACTS, arithmetic=arithmetic)}
    work = work_of(workload, facts, limits, {"mogemma": samples(0.1)}, {"mogemma": 0})
    measured = work.engines["mogemma"]
    assert measured.limit_tokens_per_second == (None if limit is None else pytest.approx(limit))
    assert measured.share == (None if limit is None else pytest.approx(1000 / limit))


def test_an_arithmetic_that_the_machine_lacks_has_no_limit() -> None:
    limits = [replace(LINE, bfloat16_macs_per_s=None)]
    facts = {"mogemma": replace(FACTS, arithmetic="bfloat16")}
    work = work_of("embed", facts, limits, {"mogemma": samples(1)}, {"mogemma": 0})
    assert work.engines["mogemma"].share is None


# --- what mogemma computes with


@pytest.mark.parametrize(
    ("arguments", "arithmetic"),
    [((), "float32"), (("--quantize", "q8_0"), "int8"), (("--arithmetic", "bfloat16"), "bfloat16")],
)
def test_mogemma_embeds_with_the_precision_asked_for(arguments: Sequence[str], arithmetic: str) -> None:
    found = document(compare("--mode", "embedding", "--rounds", "1", *arguments, model=EMBEDDING))
    assert {work["engines"]["mogemma"]["arithmetic"] for work in found["works"]} == {arithmetic}
    asked = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert found["model"]["arithmetic"] == asked.get("--arithmetic", "int8")
    assert found["model"]["quantize"] == asked.get("--quantize")


def test_what_mogemma_quantises_the_rival_still_reads_as_stored(tmp_path: Path) -> None:
    """mogemma's precision is its own: a rival's limit is that of the file."""
    rival = ("--rival", f"llama-bench={llama_bench(tmp_path)}", "--workload", "prefill,decode", "--rounds", "1")
    plain, quantised = (
        document(compare(*rival, *more, model=TINY.parent))["works"] for more in ((), ("--quantize", "q8_0"))
    )
    for before, after in zip(plain, quantised, strict=True):
        assert (
            after["engines"]["llama-bench"]["arithmetic"] == before["engines"]["llama-bench"]["arithmetic"] == "float32"
        )
        assert after["engines"]["mogemma"]["arithmetic"] == "int8"
        limits = [work["engines"]["llama-bench"]["limit_tokens_per_second"] for work in (before, after)]
        assert limits[0] == limits[1] < after["engines"]["mogemma"]["limit_tokens_per_second"]


# --- engines in a Python of their own


@pytest.mark.parametrize("name", ["llama-cpp-python", "ik-llama-cpp-python"])
def test_a_package_is_measured_in_the_python_that_has_it(tmp_path: Path, name: str) -> None:
    found = document(compare("--rival", f"{name}={python_with(tmp_path)}", "--rounds", "1"))
    for work in found["works"]:
        assert work["engines"][name]["seconds"]["median"] > 0
    assert found["versions"][name].startswith("0.")


def test_sentence_transformers_embeds_the_same_texts(tmp_path: Path) -> None:
    arguments = ("--mode", "embedding", "--rival", f"sentence-transformers={python_with(tmp_path)}", "--rounds", "1")
    found = document(compare(*arguments, model=EMBEDDING))
    assert [(work["workload"], work["tokens"] > 0) for work in found["works"]] == [
        ("embed", True),
        ("query", True),
        ("cold-start", True),
    ]
    assert found["works"][0]["tokens"] == 16 * 24
    assert found["works"][0]["engines"]["sentence-transformers"]["arithmetic"] == "bfloat16"
    assert found["versions"]["sentence-transformers"] == "5, torch 2"


def test_a_package_that_is_not_there_is_a_sentence() -> None:
    assert "No module named 'ik_llama_cpp'. Install ik-llama-cpp-python in this Python" in complaint(
        compare("--rival", "ik-llama-cpp-python")
    )


def test_a_rival_with_another_count_of_tokens_is_refused(tmp_path: Path) -> None:
    python = python_with(tmp_path, llama_cpp=(PACKAGES["llama_cpp"] + "\nLlama.tokenize = lambda *_, add_bos: [1]\n"))
    assert "llama-cpp-python was to do prefill of 24 tokens and says it did 1" in complaint(
        compare("--rival", f"llama-cpp-python={python}")
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'out of luck' >&2; exit 3", "ended in the middle of `open`: out of luck"),
        ("exit 3", "status 3"),
        ("echo hello; cat", "answers `open` with what is no answer: hello"),
    ],
)
def test_a_python_that_is_none_is_a_sentence(tmp_path: Path, script: str, words: str) -> None:
    python = executable(tmp_path / "python", f"#!/bin/sh\n{script}\n")
    assert words in complaint(compare("--rival", f"llama-cpp-python={python}"))


# --- what can go wrong


def test_a_program_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "llama-bench is not in PATH. Say where it is: --rival llama-bench=FILE." in complaint(
        compare("--rival", "llama-bench")
    )
    assert "/no/such: No such file or directory" in complaint(compare("--rival", "llama-bench=/no/such"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('no memory', file=sys.stderr); sys.exit(9)", "failed with status 9: no memory"),
        ("print('Segmentation'); sys.exit()", "prints no result that llama-bench would"),
        ("result['samples_ns'] = [0]", "prints no result that llama-bench would"),
        ("del result['n_gen']", "prints no result that llama-bench would"),
        ("result['n_prompt'] = 512", "was asked for 24 + 0 tokens with 1 threads and measured 512 + 0 with 1"),
        ("result['n_threads'] = 64", "measured 24 + 0 with 64"),
    ],
)
def test_a_program_that_fails_or_does_something_else_is_a_sentence(tmp_path: Path, code: str, words: str) -> None:
    assert words in complaint(compare("--rival", f"llama-bench={llama_bench(tmp_path, code=code)}"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rival", "vllm"), "There is no rival 'vllm'; there are llama-cpp-python"),
        (("--rival", "llama-bench=/a", "--rival", "llama-bench=/b"), "named twice"),
        (("--rival-args", "llama-bench=-fa 1"), "--rival-args names llama-bench, and no --rival does"),
        (("--rival", "llama-cpp-python", "--rival-args", "llama-cpp-python=-x"), "takes no further arguments"),
        (("--workload", "prefill,dance"), "--workload dance: with --mode generation there are prefill, decode"),
        (("--timeout", "0"), "0 is not in the range"),
        (("--threads", "0"), "0 is not in the range"),
        (("--plot", "picture.txt"), "its name must end in .png"),
        (("--plot", "/no/such/folder/a.png"), "there is no folder /no/such/folder"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_runs(arguments: Sequence[str], words: str) -> None:
    assert words in complaint(compare(*arguments), status=2)


def test_a_rival_that_cannot_do_any_of_the_work_is_refused(tmp_path: Path) -> None:
    result = compare("--mode", "embedding", "--rival", f"llama-bench={llama_bench(tmp_path)}", model=EMBEDDING)
    assert "llama-bench does none of this: embed, query, cold-start." in complaint(result, status=2)
    python = python_with(tmp_path)
    assert "it embeds, and writes no text" in complaint(compare("--rival", f"sentence-transformers={python}"))


# --- engines that hang, and a bench that is told to stop

HANG = "import os; open({file!r}, 'w').write(str(os.getpid())); time.sleep(600)"
"""Says who it is, and then nothing."""


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def process_in(file: Path) -> int:
    """What `HANG` has written, once it has."""
    wait_for(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def test_a_program_that_hangs_is_ended_and_is_a_sentence(tmp_path: Path) -> None:
    """Also behind a script that starts it: who waits for the script would wait for what it started."""
    hanging = llama_bench(tmp_path, "hanging", code=HANG.format(file=str(tmp_path / "id")))
    script = executable(tmp_path / "llama-bench", f'#!/bin/sh\n{hanging} "$@"\nexit $?\n')
    told = complaint(compare("--rival", f"llama-bench={script}", "--workload", "prefill", "--timeout", "2"))
    assert "has not ended in 2 s, and was ended" in told
    assert "-p 24 -n 0" in told
    wait_for(lambda: not lives(process_in(tmp_path / "id")))


def test_a_package_that_hangs_is_ended_and_is_a_sentence(tmp_path: Path) -> None:
    code = f"{PACKAGES['llama_cpp']}\nimport time\nLlama.eval = lambda *_: time.sleep(600)\n"
    python = python_with(tmp_path, llama_cpp=code)
    told = complaint(compare("--rival", f"llama-cpp-python={python}", "--workload", "prefill", "--timeout", "3"))
    assert "llama-cpp-python has not answered `prefill` in 3 s, and was ended. If it needs longer" in told


def test_a_python_that_stops_talking_and_does_not_end_is_a_sentence(tmp_path: Path) -> None:
    python = executable(tmp_path / "python", "#!/bin/sh\nexec >&-\nsleep 600\n")
    told = complaint(compare("--rival", f"llama-cpp-python={python}", "--timeout", "2"))
    assert "llama-cpp-python has not answered `open` in 2 s" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("rival", ["llama-bench", "llama-cpp-python"])
def test_a_bench_that_is_told_to_stop_leaves_no_rival_behind(tmp_path: Path, rival: str, number: int) -> None:
    hang = HANG.format(file=str(tmp_path / "id"))
    path = (
        llama_bench(tmp_path, code=hang)
        if rival == "llama-bench"
        else python_with(tmp_path, llama_cpp=f"__version__ = '1'\nimport time\n{hang}\n")
    )
    command = [sys.executable, "-m", "mogemma_bench.cli", "compare", "--model", str(TINY), *SHORT]
    with subprocess.Popen([*command, "--rival", f"{rival}={path}"], stderr=subprocess.DEVNULL) as bench:
        child = process_in(tmp_path / "id")
        assert lives(child)
        bench.send_signal(number)
    assert bench.returncode == (1 if number == signal.SIGINT else 128 + number)
    assert not lives(child)


def test_a_rival_that_is_just_being_started_is_not_left_behind_either(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(SystemExit), stopped_by_signals():
        start(["/bin/sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert [child.returncode for child in started] == [-signal.SIGKILL]


def test_the_signals_are_again_what_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), stopped_by_signals():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


# --- the picture


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_plot_is_drawn(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    document(compare("--rival", f"llama-bench={llama_bench(tmp_path)}", "--plot", str(file), "--rounds", "1"))
    assert file.stat().st_size > 5000
    assert file.read_bytes()[:5] in {b"\x89PNG\r", b"<?xml"}


def test_without_matplotlib_the_error_comes_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mogemma_bench.compare.plot.find_spec", lambda _: None)
    rival = llama_bench(tmp_path)
    result = compare("--rival", f"llama-bench={rival}", "--plot", str(tmp_path / "a.png"))
    assert "--plot needs matplotlib, which the extra `plot` brings" in complaint(result)
    assert not (tmp_path / "calls").exists()


def test_the_roofline_of_a_round_comes_from_a_process_of_its_own() -> None:
    program = (
        "from mogemma_bench.measure import peak_rss_bytes\n"
        "from mogemma_bench.roofline import roofline_apart\n"
        "before = peak_rss_bytes()\n"
        "print(roofline_apart(1).threads, peak_rss_bytes() - before < 50e6)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1 True\n"
