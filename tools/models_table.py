"""The tables in docs/models.md: which models run, from which files, and how far each is from the reference implementation.

    python tools/models_table.py [--check] [REPOSITORY]

Runs every tiny checkpoint of the tests that has golden outputs, in float32, and puts the tables between the two marks in
docs/models.md. With --check nothing is written; the exit status is 1 if the page says something else. It is 1 in either case
if an error passes its tolerance, or if a family of `mogemma.architectures` or a checkpoint has no row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mogemma import EmbeddingModel
from mogemma.architectures import FAMILIES, GGUF_FAMILIES
from mogemma.checkpoint import TensorType, open_checkpoint
from mogemma.session import Runner, Session
from performance_table import page_with

START = "<!-- table: made by tools/models_table.py -->"
TINY = Path("packages/mogemma/tests/data/tiny")
LOGITS, VECTORS = 1e-4, 1e-5
"""Most that a logit, or a number of a vector, may be off."""


class Row(NamedTuple):
    """A line of the first table: a family, or one kind of model in it."""

    module: str
    """File in architectures/ that describes it."""
    models: str
    runs: str
    cases: tuple[str, ...]
    """Tiny checkpoints that hold it to the reference implementation."""
    real: str = ""
    """The published model that does so too."""
    embeds: bool = False


ROWS = (
    Row("gemma1", "Gemma 1 and 1.1, CodeGemma", "text", ("gemma1-mha", "gemma1-mqa")),
    Row("gemma2", "Gemma 2, ShieldGemma, DataGemma, TxGemma", "text", ("gemma2", "gemma2-qpas")),
    Row(
        "gemma3",
        "Gemma 3, FunctionGemma, MedGemma, ShieldGemma 2",
        "text; images are left alone",
        ("gemma3-text", "gemma3-qpas", "gemma3-vision", "quant-zoo"),
        "Gemma 3 270M, Q4_K_M",
    ),
    Row(
        "gemma3",
        "EmbeddingGemma 300M",
        "embeddings",
        ("embeddinggemma",),
        "EmbeddingGemma 300M, float32",
        embeds=True,
    ),
    Row("gemma3n", "Gemma 3n: E2B, E4B", "text; images and sound are left alone", ("gemma3n-text",)),
    Row(
        "gemma4",
        "Gemma 4: E2B, E4B, 12B, 26B-A4B, 31B",
        "text; images and sound are left alone",
        ("gemma4-dense", "gemma4-e2b", "gemma4-moe", "gemma4-e2b-mm", "gemma4-unified"),
    ),
    Row("embeddinggemma2", "EmbeddingGemma 2", "embeddings of text", ("embeddinggemma2",), embeds=True),
)


class Measured(NamedTuple):
    """The greatest error of one tiny checkpoint, from each kind of file that there is of it."""

    case: str
    what: str
    tolerance: float
    errors: Mapping[str, float]

    @property
    def worst(self) -> float:
        return max(self.errors.values())


def measure(folder: Path) -> Measured:
    """Run a checkpoint from each of its files in float32, and compare with the golden outputs beside it."""
    with np.load(folder / "golden.npz") as arrays:
        golden = dict(arrays)
    paths = {"safetensors": folder / "model.safetensors", "GGUF": folder / "model.gguf"}
    is_embedder = "embedding" in golden
    errors = {
        kind: (_vector_error if is_embedder else _logit_error)(path if kind == "GGUF" else folder, golden)
        for kind, path in paths.items()
        if path.exists()
    }
    what, tolerance = ("vectors", VECTORS) if is_embedder else ("logits", LOGITS)
    return Measured(folder.name, what, tolerance, errors)


def _logit_error(path: Path, golden: Mapping[str, Any]) -> float:
    with (
        open_checkpoint(path) as checkpoint,
        Runner(checkpoint, threads=1, arithmetic="float32", cache="f32") as runner,
    ):
        session = Session(runner)
        logits = session.logits(golden["input_ids"].tolist())
        session.close()
    return float(np.abs(logits - golden["logits"]).max())


def _vector_error(path: Path, golden: Mapping[str, Any]) -> float:
    rows = zip(golden["input_ids"], golden["attention_mask"], strict=True)
    with EmbeddingModel(path, threads=1, arithmetic="float32") as model:
        vectors = model.embed([ids[mask > 0].tolist() for ids, mask in rows])
    return float(np.abs(vectors - golden["embedding"]).max())


def rounded_up(error: float) -> str:
    """One significant digit, upwards: what processors add differently does not show.

    >>> rounded_up(3.2e-06)
    '4e-06'
    """
    if error == 0:
        return "0"
    power = math.floor(math.log10(error))
    digit = math.ceil(round(error / 10.0**power, 6))
    return f"{digit * 10.0**power:.0e}"


def troubles(measured: Sequence[Measured]) -> Iterator[str]:
    """What the page must not hide."""
    for one in measured:
        if not one.worst <= one.tolerance:  # NaN is no error that passes
            yield f"{one.case}: {one.what} are off by {one.worst:.1e}, more than {one.tolerance:.0e}."
    rows, cases = {case for row in ROWS for case in row.cases}, {one.case for one in measured}
    yield from (f"{case}: no row of tools/models_table.py has it." for case in sorted(cases - rows))
    yield from (
        f"{case}: tools/models_table.py has a row of it, the tests have no checkpoint." for case in sorted(rows - cases)
    )
    modules = {_module(family) for family in FAMILIES}
    missing = sorted(modules - {row.module for row in ROWS})
    yield from (f"{module}: this family has no row in tools/models_table.py." for module in missing)


def _module(family: Any) -> str:
    return str(family.__name__).rpartition(".")[2]


def tables(measured: Sequence[Measured]) -> str:
    """Families, formats, errors."""
    by_case = {one.case: one for one in measured}
    return "\n\n".join(
        [
            _table(
                ("models", "what runs", "`model_type`", "GGUF architecture", "held to the reference on"), _families()
            ),
            f"Formats of weights: {', '.join(f'{kind.name} ({_bits(kind)})' for kind in TensorType)}, in bits a weight.",
            _table(
                ("tiny checkpoint", "of", "greatest error from safetensors", "from GGUF", "allowed"),
                _errors(by_case),
            ),
        ]
    )


def _families() -> Iterator[Sequence[str]]:
    types = {_module(family): family.MODEL_TYPES for family in FAMILIES}
    architectures = {_module(family): family.GGUF_ARCHITECTURES for family in GGUF_FAMILIES}
    for row in ROWS:
        names = sorted(name for name in architectures.get(row.module, ()) if ("embedding" in name) == row.embeds)
        evidence = f"{len(row.cases)} tiny checkpoint{'s' * (len(row.cases) > 1)}"
        yield (
            row.models,
            row.runs,
            _code(sorted(types[row.module])),
            _code(names) or "none is known",
            f"{evidence}; {row.real}" if row.real else evidence,
        )


def _errors(by_case: Mapping[str, Measured]) -> Iterator[Sequence[str]]:
    for row in ROWS:
        for case in row.cases:
            one = by_case[case]
            shown = [rounded_up(one.errors[kind]) if kind in one.errors else "" for kind in ("safetensors", "GGUF")]
            yield (case, one.what, *shown, f"{one.tolerance:.0e}")


def _bits(kind: TensorType) -> str:
    return f"{8 * kind.block_bytes / kind.block_weights:.4g}"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def main(arguments: Sequence[str]) -> int:
    checks = "--check" in arguments
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    repository = folders[0] if folders else Path(__file__).resolve().parent.parent
    measured = [measure(golden.parent) for golden in sorted((repository / TINY).glob("*/golden.npz"))]
    if found := list(troubles(measured)):
        print("\n".join(found))
        return 1
    page = repository / "docs" / "models.md"
    text = page.read_text(encoding="utf-8")
    wanted = page_with(text, tables(measured), start=START, name=page.name)
    if checks and wanted != text:
        print("docs/models.md does not say what the code and the tiny checkpoints do: run tools/models_table.py")
        return 1
    if not checks:
        page.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
