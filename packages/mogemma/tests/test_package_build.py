"""The package's build as pip and uv call it, tried with a small kernel: what is in an sdist and a wheel, and their bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from shutil import copy

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from small_kernel import write_kernel

import kernel_build
from kernel_build import current_target

PROJECT = Path(kernel_build.__file__).parent
BUILD_FILES = "build_backend.py kernel_build.py reproducible.py sbom.py setup.py".split()
BUILD_FILES += "pyproject.toml MANIFEST.in README.md LICENSE NOTICE".split()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the small kernel and an empty package, to be built by the real setup.py."""
    project = write_kernel(tmp_path / "repository").parent / "packages" / "mogemma"
    (project / "src" / "mogemma").mkdir(parents=True)
    (project / "src" / "mogemma" / "__init__.py").touch()
    for name in BUILD_FILES:
        copy(PROJECT / name, project / name)
    return project


def call_backend(hook: str, project: Path, out: Path, **environment: str) -> Path:
    """What pip and uv do with a project, less the new environment."""
    script = f"import sys; sys.path.insert(0, '.'); import build_backend; print(build_backend.{hook}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)],
        cwd=project,
        env={**os.environ, "MOGEMMA_CPU_LEVELS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def test_the_sdist_alone_builds_a_wheel_for_every_python(repository: Path, tmp_path: Path) -> None:
    sdist = call_backend("build_sdist", repository, tmp_path)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert {"mojo/include/mogemma.h", "mojo/src/abi.mojo", "mojo/src/ops/twice.mojo", "LICENSE"} <= names
    (project,) = (tmp_path / "unpacked").iterdir()

    wheel = call_backend("build_wheel", project, tmp_path)
    assert wheel.name.endswith(f"-py3-none-{current_target().wheel_platform}.whl")
    kernel = {"mogemma.h", "levels.json"} | {current_target().library_name(level) for level in current_target().levels}
    with zipfile.ZipFile(wheel) as zipped:
        assert {Path(name).name for name in zipped.namelist() if "_kernel/" in name} == kernel


def test_a_wheel_for_another_platform_holds_its_libraries(repository: Path, tmp_path: Path) -> None:
    wheel = call_backend("build_wheel", repository, tmp_path, _PYTHON_HOST_PLATFORM="linux-aarch64")
    assert wheel.name.endswith("-py3-none-manylinux_2_17_aarch64.whl")
    with zipfile.ZipFile(wheel) as zipped:
        libraries = {Path(name).name for name in zipped.namelist() if "libmogemma" in name}
    assert libraries == {"libmogemma-aarch64_dotprod.so", "libmogemma-aarch64_i8mm.so"}


def test_an_editable_install_gets_its_kernels_in_the_source_tree(repository: Path, tmp_path: Path) -> None:
    call_backend("build_editable", repository, tmp_path)
    names = {file.name for file in (repository / "src" / "mogemma" / "_kernel").iterdir()}
    assert names >= {"mogemma.h", "levels.json", current_target().library_name(current_target().levels[0])}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_sdist_and_a_wheel_have_the_same_bytes_from_other_surroundings(repository: Path, tmp_path: Path) -> None:
    """Other folder, other mask of modes, other hour and zone, and the wheel from the repository or from the sdist."""
    epoch = {"SOURCE_DATE_EPOCH": "1700000001", "MOGEMMA_CPU_LEVELS": current_target().levels[0].name}
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    sdist = call_backend("build_sdist", repository, first, **epoch)
    call_backend("build_wheel", repository, first, **epoch)

    moved = repository.parents[1].rename(tmp_path / "another place") / "packages" / "mogemma"
    for file in moved.parents[1].rglob("*"):
        file.chmod(0o700 if file.is_dir() else 0o600)
        os.utime(file, (1, 1))
    other = {**epoch, "TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "1"}
    before = os.umask(0o077)
    try:
        call_backend("build_sdist", moved, second, **other)
        with tarfile.open(first / sdist.name) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
        (project,) = (tmp_path / "unpacked").iterdir()
        call_backend("build_wheel", project, second, **other)
    finally:
        os.umask(before)
    assert tree(first) == tree(second)


def test_what_an_earlier_sdist_listed_does_not_stay(repository: Path, tmp_path: Path) -> None:
    """setuptools reads its own list of files again, with what has been dropped from MANIFEST.in since."""
    call_backend("build_sdist", repository, tmp_path)
    (repository / "notes.txt").touch()
    (listed,) = repository.glob("src/*.egg-info/SOURCES.txt")
    listed.write_text(listed.read_text(encoding="utf-8") + "notes.txt\n", encoding="utf-8")
    with tarfile.open(call_backend("build_sdist", repository, tmp_path)) as archive:
        assert not [name for name in archive.getnames() if name.endswith("notes.txt")]


def test_an_sdist_tells_nothing_of_its_builder(repository: Path, tmp_path: Path) -> None:
    with tarfile.open(call_backend("build_sdist", repository, tmp_path, SOURCE_DATE_EPOCH="1700000001")) as archive:
        told = {(entry.mtime, entry.mode, entry.uid, entry.gid, entry.uname, entry.gname) for entry in archive}
    assert told == {(1700000001, 0o644, 0, 0, "", "")}


def test_a_wheel_carries_its_licences_and_a_list_of_what_it_consists_of(repository: Path, tmp_path: Path) -> None:
    """PEP 639 and PEP 770. A second opinion says whether the list is CycloneDX."""
    epoch = {"SOURCE_DATE_EPOCH": "1700000001", "MOGEMMA_CPU_LEVELS": current_target().levels[0].name}
    with zipfile.ZipFile(call_backend("build_wheel", repository, tmp_path, **epoch)) as wheel:
        info = next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        document = wheel.read(f"{info}/sboms/mogemma.cdx.json").decode()
        for name in ("LICENSE", "NOTICE"):
            assert wheel.read(f"{info}/licenses/{name}") == (PROJECT / name).read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    sbom = json.loads(document)
    assert sbom["metadata"]["timestamp"] == "2023-11-14T22:13:21+00:00"
    parts = {part["name"]: part for part in sbom["components"]}
    assert parts["mojo-compiler"]["scope"] == "excluded"
    assert parts["mojo-compiler-mojo-libs"]["version"] == kernel_build.MOJO_VERSION
    stated = [value["value"] for part in sbom["components"] for value in part.get("properties", ())]
    assert stated == metadata.get_all("Requires-Dist")
    (mogemma,) = sbom["dependencies"]
    assert set(mogemma["dependsOn"]) <= {part["bom-ref"] for part in sbom["components"]}
