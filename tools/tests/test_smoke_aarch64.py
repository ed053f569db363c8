"""What runs aarch64 under emulation: here, what it does where it cannot, and how it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import kernel_build
import smoke_aarch64

if TYPE_CHECKING:
    from collections.abc import Mapping

SAME: Mapping[str, Any] = {"level": "aarch64_i8mm", "products": {"Q8_0 int8": "ab"}, "logits": {"tiny": [1.0, 2.0]}}


def test_without_qemu_nothing_is_done_and_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert smoke_aarch64.main([]) == 0
    assert "there is no qemu-aarch64" in capsys.readouterr().out


def test_every_level_of_aarch64_is_tried() -> None:
    """On a processor that says it has what the level needs."""
    levels = kernel_build.TARGETS["linux-aarch64"].levels
    assert [level.name for level in levels] == list(smoke_aarch64.CPUS)
    for level in levels:
        _, features = smoke_aarch64.CPUS[level.name]
        assert level.needs <= set(features.split())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"logits": {"tiny": [1.0, 2.001]}}, None),
        ({"logits": {"tiny": [1.0, 2.003]}}, "FAILED: logits of tiny"),
        ({"products": {"Q8_0 int8": "cd"}}, "FAILED: Q8_0 int8"),
        ({"level": "aarch64_dotprod"}, "FAILED: aarch64_dotprod is taken for the best level"),
    ],
)
def test_other_products_and_distant_logits_are_failures(
    changed: Mapping[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([{**SAME, **changed}, SAME])
    monkeypatch.setattr(smoke_aarch64, "_computed", lambda _command, _variables: next(answers))
    monkeypatch.setattr(smoke_aarch64, "emulated", lambda _qemu, _level, arguments: arguments)
    assert smoke_aarch64.differs("qemu", "aarch64_i8mm") == (said is not None)
    output = capsys.readouterr().out
    assert (said or "products are the same") in output
