"""What artifacts must be, as the repository tells: its files in git, and kernel_build.py, which knows the kernels."""

from __future__ import annotations

import hashlib
import importlib.util
import posixpath
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import matrix
from ..errors import ReleaseError
from ..matrix import Platform
from ..repository import Repository

_PACKAGE = f"packages/{matrix.PACKAGE}/"
_SOURCES = f"{_PACKAGE}src/"
_HEADER = "mojo/include/mogemma.h"


@dataclass(frozen=True)
class Recipe:
    """The expectations of one commit.

    Attributes:
        epoch: Seconds since 1970 of the commit, which every entry of an archive carries.
        blobs: Git's digest of each file, by its path in the repository.
        kernels: kernel_build.py as a module.
    """

    version: str
    epoch: int
    blobs: Mapping[str, str]
    kernels: ModuleType

    @staticmethod
    def of(repository: Repository) -> Recipe:
        kernels = _module(repository.root / _PACKAGE / "kernel_build.py")
        return Recipe(repository.version, repository.source_date_epoch, _blobs(repository), kernels)

    def target(self, platform: Platform) -> Any:
        """kernel_build.Target of a platform."""
        return self.kernels.TARGETS[platform.name]

    def libraries(self, platform: Platform) -> list[str]:
        """The names of its kernels, the plainest first."""
        target = self.target(platform)
        return [target.library_name(level) for level in target.levels]

    def wheel_name(self, platform: Platform) -> str:
        return f"{matrix.PACKAGE}-{self.version}-py3-none-{platform.wheel_tag}.whl"

    @property
    def sdist_name(self) -> str:
        return f"{matrix.PACKAGE}-{self.version}.tar.gz"

    @property
    def dist_info(self) -> str:
        return f"{matrix.PACKAGE}-{self.version}.dist-info"

    def wheel_files(self, platform: Platform) -> dict[str, str | None]:
        """What is in a wheel, with git's digest of what is a copy of a file in the repository."""
        files: dict[str, str | None] = {}
        for path, blob in self.blobs.items():
            if path.startswith(f"{_SOURCES}{matrix.PACKAGE}/"):
                files[path.removeprefix(_SOURCES)] = blob
        kernel = f"{matrix.PACKAGE}/_kernel"
        files |= {f"{kernel}/{name}": None for name in ("levels.json", *self.libraries(platform))}
        files[f"{kernel}/mogemma.h"] = self.blobs.get(_HEADER)
        generated = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "sboms/mogemma.cdx.json")
        files |= {f"{self.dist_info}/{name}": None for name in generated}
        files |= {f"{self.dist_info}/licenses/{name}": self.blobs.get(_PACKAGE + name) for name in LICENSES}
        return files

    def sdist_files(self) -> dict[str, str | None]:
        """What is in the sdist, under its one folder."""
        files: dict[str, str | None] = {}
        for path, blob in self.blobs.items():
            if path.startswith(_PACKAGE) and not path.startswith(f"{_PACKAGE}tests/"):
                files[path.removeprefix(_PACKAGE)] = blob
            elif path == _HEADER or (path.startswith("mojo/src/") and path.endswith(".mojo")):
                files[path] = blob
        info = "PKG-INFO SOURCES.txt dependency_links.txt entry_points.txt requires.txt top_level.txt".split()
        return files | dict.fromkeys(["PKG-INFO", "setup.cfg", *(f"src/mogemma.egg-info/{name}" for name in info)])


LICENSES = ("LICENSE", "NOTICE")


def _blobs(repository: Repository) -> dict[str, str]:
    """Git's digest of every file of the commit; of a link, as packages/mogemma/LICENSE is one, that of what it leads to."""
    listed = repository.git("ls-tree", "-r", "-z", "HEAD").split("\0")[:-1]
    entries = {path: line.split() for line, _, path in (entry.partition("\t") for entry in listed)}
    blobs = {path: blob for path, (_, _, blob) in entries.items()}
    for path, (mode, _, blob) in entries.items():
        if mode == "120000":
            target = posixpath.normpath(
                posixpath.join(posixpath.dirname(path), repository.git("cat-file", "blob", blob))
            )
            blobs[path] = blobs.get(target, blob)
    return blobs


def blob_id(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 (git's choice, not a safeguard)


def differences(contents: Mapping[str, bytes], expected: Mapping[str, str | None]) -> list[str]:
    """How the files of an archive are not those that are expected."""
    missing = sorted(expected.keys() - contents.keys())
    foreign = sorted(contents.keys() - expected.keys())
    changed = [name for name, blob in expected.items() if blob and name in contents and blob_id(contents[name]) != blob]
    told = {"it lacks": missing, "it holds, beside what belongs there,": foreign, "not as in the commit:": changed}
    return [
        f"{what} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" for what, names in told.items() if names
    ]


def _module(file: Path) -> ModuleType:
    name = "mogemma_kernel_build"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ReleaseError(f"{file} is missing: the repository is not whole.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
