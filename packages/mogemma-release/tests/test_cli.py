from __future__ import annotations

from click.testing import CliRunner

from mogemma_release import __version__
from mogemma_release.cli import main


def test_release_says_what_it_will_do_and_that_nothing_runs_yet() -> None:
    result = CliRunner().invoke(main)
    assert result.exit_code == 0
    assert "nothing runs" in result.output
    assert [line.split()[0] for line in result.output.splitlines() if line.startswith("  ")] == (
        ["preflight", "evidence", "reproduce", "smoke", "baselines", "go", "tag", "rollback"]
    )


def test_release_refuses_arguments_it_does_not_know() -> None:
    """A person who types `release tag` must not believe that a tag was made."""
    assert CliRunner().invoke(main, ["tag"]).exit_code == 2


def test_version_is_the_installed_packages() -> None:
    assert __version__ in CliRunner().invoke(main, ["--version"]).output
