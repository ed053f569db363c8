"""Build what a release publishes, the sdist and a wheel for each platform, out of a clean copy of the commit.

A copy, so that nothing gets in which git does not know. All builds carry the commit's time, and setuptools and mojo-compiler
are those of uv.lock, hashes included: with `setuptools>=80` alone, a release of setuptools would change the bytes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import matrix, process
from ..errors import ReleaseError
from ..files import sha256, write_whole
from ..matrix import Platform
from ..repository import Repository

SUMS = "SHA256SUMS"
LIMIT_SECONDS = 30 * 60.0
"""For one artifact. Four kernels take a minute or two."""

_KERNEL_CACHE = Path("packages", "mogemma", "build", "kernel")
_LAST_LINES = 20

Report = Callable[[str], None]


@dataclass(frozen=True)
class Conditions:
    """What builds may differ in without a difference in their bytes.

    Attributes:
        variables: Environment variables beside this process's own.
        prefix: A command that runs the command after it: another umask, fewer cores.
        fresh: Compile all kernels; otherwise those of the repository's cache are taken where they fit.
        from_sdist: The wheels are built from the sdist, as a user of it would, and not from the copy.
        levels: Of MOGEMMA_CPU_LEVELS; none for all.
        limit_seconds: Ends the build of an artifact.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    fresh: bool = False
    from_sdist: bool = False
    levels: str = ""
    limit_seconds: float = LIMIT_SECONDS


def build_artifacts(
    repository: Repository,
    out: Path,
    platforms: Sequence[Platform] = matrix.PLATFORMS,
    conditions: Conditions | None = None,
    report: Report = lambda _: None,
) -> list[Path]:
    """The sdist, a wheel for each platform and SHA256SUMS, all of the commit, in place of the folder `out`.

    Raises:
        ReleaseError: Something cannot be built, takes too long or cannot be written; `out` is then as it was.
    """
    check_replaceable(out)
    with tempfile.TemporaryDirectory(prefix="mogemma-build-") as temp:
        builder = _Builder(repository, Path(temp), conditions or Conditions())
        builder.copy()
        report("building the sdist")
        builder.build(["--sdist", str(builder.clone / "packages" / matrix.PACKAGE)])
        (sdist,) = builder.built.glob("*.tar.gz")
        source = sdist if builder.conditions.from_sdist else builder.clone / "packages" / matrix.PACKAGE
        for platform in platforms:
            report(f"building the wheel for {platform.name}")
            builder.build(["--wheel", str(source)], platform)
        write_whole(builder.built / SUMS, sums_of(builder.built))
        put_folder(builder.built, out)
    return sorted(out.iterdir())


class _Builder:
    """Runs the builds of one copy; `built` fills with what they make."""

    def __init__(self, repository: Repository, folder: Path, conditions: Conditions) -> None:
        self._repository = repository
        self._log, self._constraints = folder / "log", folder / "constraints.txt"
        self.conditions = conditions
        self.clone, self.built = folder / "mogemma", folder / "dist"
        self._epoch = str(repository.source_date_epoch)

    def copy(self) -> None:
        root, commit = str(self._repository.root), self._repository.commit
        self._run(["git", "clone", "--quiet", "--shared", "--no-checkout", root, str(self.clone)], "copy")
        self._run(["git", "-C", str(self.clone), "checkout", "--quiet", "--detach", commit], "copy")
        if not self.conditions.fresh:
            cache = self._repository.root / _KERNEL_CACHE
            cache.mkdir(parents=True, exist_ok=True)
            (self.clone / _KERNEL_CACHE).parent.mkdir(parents=True, exist_ok=True)
            (self.clone / _KERNEL_CACHE).symlink_to(cache)
        export = [_uv(), "export", "--quiet", "--frozen", "--only-group", "build", "--project", str(self.clone)]
        self._run([*export, "--output-file", str(self._constraints)], "list of build tools")

    def build(self, what: Sequence[str], platform: Platform | None = None) -> None:
        name = f"wheel for {platform.name}" if platform else "sdist"
        pinned = ["--build-constraints", str(self._constraints), "--require-hashes"]
        out = ["--no-create-gitignore", "--out-dir", str(self.built)]
        command = [_uv(), "--no-progress", "build", "--python", sys.executable, *pinned, *out, *what]
        self._run(command, name, {"SOURCE_DATE_EPOCH": self._epoch, **self._target(platform)})

    def _target(self, platform: Platform | None) -> dict[str, str]:
        target = {"MOGEMMA_CPU_LEVELS": self.conditions.levels, "ARCHFLAGS": ""}
        if platform:
            target["_PYTHON_HOST_PLATFORM"] = platform.host_platform
            if platform.system == "macos":
                target["ARCHFLAGS"] = f"-arch {platform.arch}"
        return target

    def _run(self, command: Sequence[str], name: str, variables: Mapping[str, str] | None = None) -> None:
        ran = process.run(
            [*self.conditions.prefix, *command],
            self._log.parent,
            self._log,
            limit_seconds=self.conditions.limit_seconds,
            variables={**self.conditions.variables, **(variables or {})},
        )
        if ran.timed_out:
            raise ReleaseError(f"The {name} took longer than {self.conditions.limit_seconds:.0f} s and was ended.")
        if not ran.passed:
            told = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
            raise ReleaseError(f"The {name} cannot be built (status {ran.exit_status}):\n" + "\n".join(told))


def _uv() -> str:
    return os.environ.get("UV", "uv")


def sums_of(folder: Path) -> str:
    """What `sha256sum --check` reads: a line for each sdist and wheel of a folder."""
    return "".join(f"{sha256(file)}  {file.name}\n" for file in artifacts_in(folder))


def artifacts_in(folder: Path) -> list[Path]:
    """The sdists and wheels in a folder."""
    return sorted(file for pattern in ("*.tar.gz", "*.whl") for file in folder.glob(pattern))


def check_replaceable(folder: Path) -> None:
    """Raises ReleaseError where something else than a build's results would be lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is no folder.")
    builds = {*artifacts_in(folder), folder / SUMS, folder / ".gitignore"}  # .gitignore: `uv build` leaves it
    if foreign := sorted(path.name for path in folder.iterdir() if path not in builds):
        raise ReleaseError(
            f"{folder} holds {foreign[0]}, which no build made, and would be replaced as a whole. Choose another --out."
        )


def put_folder(source: Path, target: Path) -> None:
    """Bring a folder to a place in one step; what was there stays until it is all copied.

    Raises:
        ReleaseError: The disk is full, or the place cannot be written; it is then as it was.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temp:
            new, old = Path(temp, "new"), Path(temp, "old")
            shutil.copytree(source, new, copy_function=_copy_readable)
            new.chmod(0o755)
            if target.exists():
                target.rename(old)
            new.rename(target)
    except OSError as error:
        raise ReleaseError(f"{target} cannot be written ({error.strerror}). It is as it was before.") from error


def _copy_readable(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o644)
