"""What a release is built for: the one place that says which Pythons, platforms and jobs there are.

The workflows, the configuration of cibuildwheel, the runbook's page and the checks of what was built are all held to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
"""One wheel serves them all; it is tested on each."""


@dataclass(frozen=True)
class Platform:
    """A platform with a wheel of its own.

    Attributes:
        host_platform: `_PYTHON_HOST_PLATFORM` of a build for it on another machine.
        wheel_tag: How its wheel ends.
        runner: GitHub's machine that builds it.
        cibw_arch: What cibuildwheel calls its processor.
    """

    system: Literal["linux", "macos"]
    arch: str
    host_platform: str
    wheel_tag: str
    runner: str
    cibw_arch: str

    @property
    def name(self) -> str:
        return f"{self.system}-{self.arch}"


PLATFORMS = (
    Platform("linux", "x86_64", "linux-x86_64", "manylinux_2_17_x86_64", "ubuntu-latest", "x86_64"),
    Platform("linux", "aarch64", "linux-aarch64", "manylinux_2_17_aarch64", "ubuntu-latest", "aarch64"),
    Platform("macos", "x86_64", "macosx-11.0-x86_64", "macosx_11_0_x86_64", "macos-latest", "x86_64"),
    Platform("macos", "arm64", "macosx-11.0-arm64", "macosx_11_0_arm64", "macos-latest", "arm64"),
)

SKIPPED = {
    "musllinux": "Mojo needs glibc",
    "i686": "Mojo is 64-bit only",
    "Windows": "Mojo has no compiler for it",
    "PyPy": "cffi is there, but nobody has tested mogemma on it",
}
"""What gets no wheel, and why; the sdist says so before anything is compiled."""

PACKAGE = "mogemma"
"""The package that is published. Its companions share its version and stay in the repository."""

WORKFLOW = ".github/workflows/publish.yml"
JOBS = ("build-source", "build-wheels", "publish-release")
"""The jobs of the publishing workflow, in this order."""

ENVIRONMENT = "release"
"""GitHub's environment that the last of these jobs publishes from, and the package index takes files from."""
DRY_RUN_ENVIRONMENT = "dry-run"
"""The one that it runs in when nothing is published."""

TAGS = "v*"
"""The tags that start the workflow."""

CI_WORKFLOW = ".github/workflows/ci.yml"
CI_JOBS = ("lint", "test", "build", "real-models", "check-release")
"""The jobs that every change passes, in this order; the last one is started by hand."""
