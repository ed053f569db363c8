"""`mogemma info` shows what the library says of a model, for programs and for people."""

from __future__ import annotations

import pytest
from commandline import EMBEDDER, WRITER, document, run

from mogemma import ModelInfo
from mogemma.commands.table import size


@pytest.mark.parametrize(
    ("model", "family", "generates"), [(WRITER, "gemma3", True), (EMBEDDER, "embeddinggemma", False)]
)
def test_json_has_every_field(model: str, family: str, generates: bool) -> None:
    found = document(run("info", "-m", model, "--json"))
    assert set(found) == set(ModelInfo.__dataclass_fields__)
    assert (found["path"], found["family"], found["generates"]) == (model, family, generates)


def test_a_person_reads_names_and_sizes() -> None:
    shown = dict(line.split("  ", 1) for line in run("info", "-m", WRITER).stdout.splitlines())
    found = {name: value.strip() for name, value in shown.items()}
    assert found["family"] == "gemma3"
    assert found["parameters"] == "113,704"
    assert found["tensors"] == "93 BF16"
    assert found["files"] == "237 kB"


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (237_096, "237 kB"),
        (999_600, "1.0 MB"),
        (253_113_024, "253 MB"),
        (1_200_000_000, "1.2 GB"),
        (25_300_000_000_000, "25,300.0 GB"),
    ],
)
def test_sizes_have_about_three_digits(n_bytes: int, shown: str) -> None:
    assert size(n_bytes) == shown
