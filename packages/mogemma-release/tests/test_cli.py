from __future__ import annotations

from click.testing import CliRunner

from mogemma_release import __version__
from mogemma_release.cli import main


def test_release_refuses_commands_it_does_not_know() -> None:
    assert CliRunner().invoke(main, ["publish-everything"]).exit_code == 2


def test_version_is_the_installed_packages() -> None:
    assert __version__ in CliRunner().invoke(main, ["--version"]).output
