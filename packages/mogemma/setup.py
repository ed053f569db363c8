"""Builds the Mojo kernels with the package: see kernel_build.py for how, pyproject.toml for everything else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

import kernel_build
import reproducible
import sbom

PROJECT = Path(__file__).resolve().parent
KERNEL_PACKAGE = Path("mogemma", "_kernel")


class BuildKernel(Command):
    """Compile the kernels into the build folder, or into src/ for an editable install."""

    description = "compile the Mojo kernels"
    user_options: ClassVar[list[tuple[str, str, str]] | list[tuple[str, str | None, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        try:
            target = kernel_build.current_target()
            kernel_build.build_kernels(
                kernel_build.find_mojo(PROJECT),
                self._folder(),
                cache=PROJECT / "build" / "kernel",
                target=target,
                levels=kernel_build.chosen_levels(target),
                report=self.announce_line,
            )
        except kernel_build.KernelBuildError as error:
            raise CompileError(str(error)) from error

    def announce_line(self, line: str) -> None:
        self.announce(line, level=2)

    def _folder(self) -> Path:
        base = PROJECT / "src" if self.editable_mode else Path(self.build_lib or "")
        return base / KERNEL_PACKAGE

    def get_source_files(self) -> list[str]:
        """None by name: the Mojo sources lie outside the project's folder, and Sdist brings them."""
        return []

    def get_outputs(self) -> list[str]:
        folder = self._folder()
        return [str(file) for file in sorted(folder.iterdir())] if folder.is_dir() else []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Sdist(sdist):
    """Carries the Mojo sources along as mojo/, and has the same bytes wherever it is made."""

    def run(self) -> None:
        # setuptools would take over what this list of an earlier build has, even if it no longer belongs to the package.
        for listed in PROJECT.glob("src/*.egg-info/SOURCES.txt"):
            listed.unlink()
        super().run()
        for archive in self.archive_files or ():
            reproducible.normalise_sdist(Path(archive))

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        mojo = kernel_build.find_mojo(PROJECT)
        for source in (kernel_build.header_of(mojo), *sorted((mojo / "src").rglob("*.mojo"))):
            copy = Path(base_dir, "mojo", source.relative_to(mojo))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


class Wheel(bdist_wheel):
    """One wheel for every Python of a platform: the libraries are reached through cffi, not through Python's C API."""

    def run(self) -> None:
        # What an earlier build left there (a removed module, another CPU level) must not get into this wheel.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()
        reproducible.normalise_wheel(Path(self.distribution.dist_files[-1][2]))

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        super().egg2dist(egginfo_path, distinfo_path)
        sbom.write(Path(distinfo_path))

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", kernel_build.current_target().wheel_platform


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        """True, so that setuptools takes the package for one that is tied to its platform."""
        return True


build.sub_commands = [*build.sub_commands, ("build_kernel", None)]
setup(distclass=PlatformDistribution, cmdclass={"build_kernel": BuildKernel, "sdist": Sdist, "bdist_wheel": Wheel})
