from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from throwaway import change_baseline, make_noise

from mogemma_release.errors import ReleaseError
from mogemma_release.measurements import FIGURES, MIN_THRESHOLD, Baseline, Noise, compare
from mogemma_release.repository import Repository
from mogemma_release.runbook import BASELINES, GENERATION_BASELINE

PREFILL, DECODE = "prefill.tokens_per_second", "decode.tokens_per_second"


@pytest.fixture
def baseline(repository: Repository) -> Baseline:
    return Baseline.read(repository.root / GENERATION_BASELINE)


@pytest.fixture
def noise(repository: Repository) -> Noise:
    value = make_noise(repository.root)
    return Noise(value["environment"], value["runs"])


def changed(repository: Repository, factors: dict[str, float], **environment: object) -> Baseline:
    file = repository.root / GENERATION_BASELINE
    change_baseline(file, factors, **environment)
    return Baseline.read(file)


def test_equal_baselines_are_no_regression(baseline: Baseline, noise: Noise) -> None:
    changes = compare(baseline, baseline, noise)
    assert [change.ratio for change in changes] == [1.0] * len(changes)
    assert not any(change.is_regression for change in changes)


def test_a_slower_figure_is_a_regression(repository: Repository, baseline: Baseline, noise: Noise) -> None:
    slower = changed(repository, {DECODE: 0.8, "first_token.seconds": 1.25})
    changes = compare(baseline, slower, noise)
    assert {c.figure.name for c in changes if c.is_regression} == {"decode", "time to first token"}
    assert next(c.ratio for c in changes if c.figure.name == "decode") == pytest.approx(0.8)
    assert next(c.ratio for c in changes if c.figure.name == "time to first token") == pytest.approx(0.8)


def test_a_slow_machine_is_no_regression(repository: Repository, baseline: Baseline, noise: Noise) -> None:
    """Everything takes twice as long, what the machine can do at most too: the share is what it was."""
    limits = {"compute.machine_macs_per_s": 0.5, "bandwidth.machine_bytes_per_s": 0.5}
    slow = changed(repository, {PREFILL: 0.5, DECODE: 0.5, "first_token.seconds": 2.0, **limits})
    assert not any(change.is_regression for change in compare(baseline, slow, noise))


def test_a_fast_machine_does_not_make_a_regression_of_the_same_speed(
    repository: Repository, baseline: Baseline, noise: Noise
) -> None:
    fast = changed(repository, {"compute.machine_macs_per_s": 2.0, "bandwidth.machine_bytes_per_s": 2.0})
    assert not any(change.is_regression for change in compare(baseline, fast, noise))


def test_more_memory_is_a_regression(repository: Repository, baseline: Baseline, noise: Noise) -> None:
    """No speed of the machine excuses it."""
    changes = compare(baseline, changed(repository, {"peak_rss_bytes": 1.2}), noise)
    assert [c.figure.name for c in changes if c.is_regression] == ["peak memory"]


def test_the_threshold_is_what_equal_runs_stay_within(repository: Repository) -> None:
    figure = next(figure for figure in FIGURES if figure.name == "decode")

    def threshold(spread: float) -> float:
        value = make_noise(repository.root, spread)
        return Noise(value["environment"], value["runs"]).threshold(figure)

    assert threshold(0.0) == MIN_THRESHOLD
    assert MIN_THRESHOLD < threshold(0.02) < threshold(0.05) < 0.5


@pytest.mark.parametrize("field", ["processor", "cores", "cpu_level", "threads", "python", "platform"])
def test_another_machine_cannot_be_compared(
    repository: Repository, baseline: Baseline, noise: Noise, field: str
) -> None:
    with pytest.raises(ReleaseError, match=rf"cannot be compared: environment\.{field} was .*, is 'other'"):
        compare(baseline, changed(repository, {}, **{field: "other"}), noise)


def test_half_the_memory_is_another_machine(repository: Repository, baseline: Baseline, noise: Noise) -> None:
    half = baseline.get("environment.memory_bytes") // 2
    with pytest.raises(ReleaseError, match=r"cannot be compared: environment\.memory_bytes was"):
        compare(baseline, changed(repository, {}, memory_bytes=half), noise)
    with pytest.raises(ReleaseError, match=r"environment\.memory_bytes is 'much', not a number"):
        changed(repository, {}, memory_bytes="much")


def test_an_update_of_kernel_or_python_leaves_the_machine_what_it_is(
    repository: Repository, baseline: Baseline, noise: Noise
) -> None:
    """Otherwise no release after an update could be compared with the one before it, and so be a go."""
    memory = baseline.get("environment.memory_bytes") - 5 * 2**20
    python = baseline.get("environment.python")
    updated = {"platform": "Linux-99.1-x86_64-with-glibc2.99", "python": f"{python}9", "memory_bytes": memory}
    assert compare(baseline, changed(repository, {}, **updated), noise)


@pytest.mark.parametrize("path", ["rounds", "model.sha256", "prefill.tokens", "decode.tokens"])
def test_other_work_cannot_be_compared(baseline: Baseline, noise: Noise, path: str) -> None:
    value = json.loads(json.dumps(baseline.value))
    *keys, last = path.split(".")
    group: Any = value
    for key in keys:
        group = group[key]
    group[last] = 7 if path != "rounds" else group[last]
    if path == "rounds":
        value["rounds"] = 29
        for spread in (value["prefill"], value["decode"]):
            _shorten(spread["tokens_per_second"])
        _shorten(value["first_token"]["seconds"])
    with pytest.raises(ReleaseError, match=f"cannot be compared: .*{path}"):
        compare(baseline, Baseline(value, "other"), noise)


def _shorten(spread: dict[str, Any]) -> None:
    spread["samples"] = spread["samples"][:29]
    samples = spread["samples"]
    spread.update(median=median(samples), min=min(samples), max=max(samples))


@pytest.mark.parametrize("name", BASELINES.values())
def test_any_changed_sample_of_a_baseline_is_noticed_or_within_its_own_order(repository: Repository, name: str) -> None:
    """A figure that was typed, and not measured, contradicts its samples."""
    value = json.loads((repository.root / name).read_text())
    baseline = Baseline.read(repository.root / name)
    for figure in baseline.figures:
        if len(baseline.samples(figure)) > 1:
            lying = json.loads(json.dumps(value))
            group = lying
            for key in figure.path.split("."):
                group = group[key]
            group["median"] *= 1.01
            with pytest.raises(ReleaseError, match="are not those of its samples"):
                Baseline(lying, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged: it is no JSON"),
        ("[]", "is no baseline: its mode is None"),
        ('{"mode": ["generation"]}', "is no baseline"),
        ('{"mode": "generation"}', r"lacks prefill\.tokens_per_second"),
        ('{"mode": "generation", "prefill": 3}', r"lacks prefill\.tokens_per_second"),
    ],
)
def test_a_damaged_baseline_is_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(text)
    with pytest.raises(ReleaseError, match=message):
        Baseline.read(file)


def test_a_missing_baseline_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is missing"):
        Baseline.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"environment": {}, "runs": {"a": ["x"]}}', '{"environment": {}, "runs": []}']
)
def test_damaged_noise_is_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "noise.json"
    file.write_text(text)
    with pytest.raises(ReleaseError, match="is damaged: measure it anew"):
        Noise.read(file)


def test_too_few_runs_make_no_threshold(noise: Noise) -> None:
    few = Noise(noise.environment, {key: values[:3] for key, values in noise.runs.items()})
    with pytest.raises(ReleaseError, match="has not four runs"):
        few.threshold(FIGURES[0])
