"""Documents that cannot go stale in silence: what they name exists, what they list is whole, what they show runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest

import check_docs
from check_docs import Checker, main, spans
from mogemma.library import model_folder
from mogemma_bench.measure import Spread
from mogemma_bench.report import EmbeddingResult, GenerationResult, Speed

REPOSITORY = Path(__file__).resolve().parents[2]


def read(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def examples(document: str) -> list[str]:
    """The blocks of Python that are no excerpts."""
    return [span.text for span in spans(read(document)) if span.info == "python"]


def first_cells(document: str) -> list[str]:
    """The code spans in the first column of every table."""
    rows = re.findall(r"^\| (`[^|]*) \|", read(document), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def run(program: str, folder: Path | None = None) -> str:
    """What a program prints in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker(REPOSITORY)


def test_documents_name_only_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(REPOSITORY)])
    assert capsys.readouterr().out == ""
    assert status == 0


def test_every_document_is_among_those_that_are_checked() -> None:
    found = {document.relative_to(REPOSITORY).as_posix() for document in check_docs.documents(REPOSITORY)}
    assert found >= {"README.md", "CONTRIBUTING.md", "mojo/README.md", "docs/architecture.md", "docs/measuring.md"}


@pytest.mark.parametrize(
    "text",
    [
        "`make test`, `make lint check`, `make PROMPT=hello demo`",
        "`mogemma chat --system`, `mogemma generate | chat`, `--max-tokens`, `uv run --package mogemma-bench bench --json`",
        "`python tools/benchmark.py --rounds 30`, `MOGEMMA_CPU_LEVEL=x86_64_v3 uv run pytest packages/mogemma`",
        "`MOGEMMA_CONTEXT_FULL`, `mogemma_forward`, `mogemma_layer.n_before`, `MOGEMMA_MAX_TOKENS`",
        "`Session.prefill`, `mogemma.session.Runner`, `LayerSpec.n_after`, `StoredRows.half`, `SEGMENT = 1024`",
        "`ops/rope.mojo`, `session.py`, `tests/ops/test_<op>.mojo`, `docs/`",
        "`weight = scale * (nibble - 8)`, `area: what it now does`, `decode.tokens_per_second.{median,min}`",
        "[a link](docs/building.md#levels), [another](https://example.org/nothing)",
        "```sh\nmake install && make test  # all\nfor i in 1 2; do\n    (cd .. && uv run bench) > a-$i.json\ndone\n```",
        "```\nfile ── checkpoint/ ──> session.py\n```",
        "```python\nfrom mogemma import EmbeddingModel\n```",
        "```c mojo/include/mogemma.h\n#define MOGEMMA_OK 0\n...\n#define MOGEMMA_PACKED 1\n```",
    ],
)
def test_what_exists_is_no_finding(checker: Checker, text: str) -> None:
    assert list(checker.findings(text, REPOSITORY)) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("`make tset`", "`make tset`"),
        ("`mogemma chat --sistem`", "the option --sistem"),
        ("`mogemma chatt`", "`mogemma chatt`"),
        ("`--no-such-option`", "--no-such-option"),
        ("`uv run --package mogemma-rivals bench`", "mogemma-rivals"),
        ("`uv run --package mogemma-bench bench --json --hours 3`", "--hours"),
        ("`uv run pytest packages/mogemma/tests/test_motors.py`", "packages/mogemma/tests/test_motors.py"),
        ("`python tools/bench.py`", "tools/bench.py"),
        ("`python tools/benchmark.py --hours 3`", "--hours"),
        ("`MOGEMMA_CONTEXT_FULLER`", "MOGEMMA_CONTEXT_FULLER"),
        ("`mogemma_session_decode`", "mogemma_session_decode"),
        ("`mogemma_layer.n_above`", "mogemma_layer.n_above"),
        ("`Session.postfill`", "Session.postfill"),
        ("`mogemma.session.Walker`", "mogemma.session.Walker"),
        ("`StoredRows.quarter`", "StoredRows.quarter"),
        ("`SEGMENT = 102`", "SEGMENT = 102"),
        ("`ops/ropes.mojo`", "ops/ropes.mojo"),
        ("`sessions.py`", "sessions.py"),
        ("a ring of `n_before + max_tokenz`", "max_tokenz"),
        ("`decode.tokens_per_second.{median,maximum_of_all}`", "maximum_of_all"),
        ("[a link](docs/bulding.md)", "docs/bulding.md"),
        ("`a span`, and one `that has no end", "backtick"),
        ("```sh\nmake install && make tset\n```", "`make tset`"),
        ("```sh\nmogema generate\n```", "`mogema`"),
        ("```\nfile ── checkpoints/gguf.py\n```", "checkpoints/gguf.py"),
        ("```python\nfrom mogemma import EmbeddingModels\n```", "EmbeddingModels"),
        ("```c mojo/include/mogemma.h\n#define MOGEMMA_OK 1\n```", "#define MOGEMMA_OK 1"),
        ("```c mojo/include/gemma.h\n#define MOGEMMA_OK 0\n```", "mojo/include/gemma.h"),
        ("```mojo\nvar x = 1\n```", "names no file"),
    ],
)
def test_what_does_not_exist_is_one_finding_at_its_line(checker: Checker, text: str, finding: str) -> None:
    (found,) = checker.findings(f"# Title\n\n{text}\n", REPOSITORY)
    assert found.startswith("3 ")
    assert finding in found


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer from the wrong folder would read as a clean one."""
    assert main([str(tmp_path)]) == 2
    assert "is not mogemma's repository" in capsys.readouterr().err


def test_the_table_of_cpu_levels_has_every_level_from_the_plainest_to_the_most_capable() -> None:
    levels = re.findall(r"CpuLevel\(\"(\w+)\"", read("packages/mogemma/kernel_build.py"))
    assert len(levels) >= 6
    assert [name for name in first_cells("docs/architecture.md") if name in levels] == levels


def test_the_table_of_results_has_every_field_that_bench_prints() -> None:
    printed = {field.name for result in (GenerationResult, EmbeddingResult) for field in fields(result)}
    assert {name.partition(".")[0] for name in first_cells("docs/measuring.md")} == printed


def test_the_map_of_the_kernels_has_every_file() -> None:
    """Weight formats are one row: their list is in the code."""
    source, text = REPOSITORY / "mojo" / "src", read("mojo/README.md")
    for file in source.rglob("*.mojo"):
        is_format = re.search(r"^    comptime ID: Int32 = ", file.read_text(encoding="utf-8"), re.MULTILINE)
        if file.stem != "__init__" and not is_format:
            assert f"`src/{file.relative_to(source).as_posix()}`" in text


def test_the_ratio_of_two_versions_is_that_of_their_pairs(tmp_path: Path) -> None:
    """What docs/measuring.md shows, on results as bench writes them."""
    for name, speeds in {"before": (100.0, 50.0, 80.0), "after": (110.0, 50.0, 100.0)}.items():
        for index, speed in enumerate(speeds):
            result = {what: asdict(Speed(1, Spread.of([speed]))) for what in ("prefill", "decode")}
            (tmp_path / f"{name}-{index}.json").write_text(json.dumps(result), encoding="utf-8")
    (example,) = examples("docs/measuring.md")
    assert run(example, tmp_path).splitlines() == [
        f"{what}: 1.100 times as fast, 1.000 to 1.250 in 3 pairs" for what in ("prefill", "decode")
    ]


def test_the_example_of_the_readme_runs() -> None:
    """On the real models, with nothing but the package; it is short enough to be read at a glance."""
    (example,) = examples("README.md")
    assert len(example.splitlines()) <= 10
    needed = ("gemma-3-270m-q4_k_m.gguf", "embeddinggemma-300m")
    if missing := [name for name in needed if not (model_folder() / name).exists()]:
        reason = f"{' and '.join(missing)} missing in {model_folder()}: run tools/fetch_models.py"
        if os.environ.get("MOGEMMA_REQUIRE_REAL_MODELS"):
            pytest.fail(reason)
        pytest.skip(reason)
    printed = run(example)
    assert printed.endswith("(256,)\n")
    assert len(printed.split()) > 8
