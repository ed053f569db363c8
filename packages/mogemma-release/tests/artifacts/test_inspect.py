from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from mogemma_release.artifacts import archives, others
from mogemma_release.artifacts.archives import read_wheel
from mogemma_release.artifacts.inspect import inspect
from mogemma_release.artifacts.recipe import Recipe
from mogemma_release.artifacts.wheel import Wheel
from mogemma_release.cli import main
from mogemma_release.errors import ReleaseError
from mogemma_release.matrix import PLATFORMS, Platform
from mogemma_release.repository import Repository

pytestmark = pytest.mark.timeout(900)
LINUX, _, _, MAC = PLATFORMS


def wheel_of(dist: Path, platform: Platform) -> Path:
    (wheel,) = dist.glob(f"*{platform.wheel_tag}.whl")
    return wheel


def rewrite(wheel: Path, change: Callable[[dict[str, bytes]], None], *, record: bool = True) -> None:
    """Change a wheel's files; RECORD is brought up to date unless that is what is to be wrong."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        (moment,) = {entry.date_time for entry in archive.infolist()}
    change(contents)
    own = next(name for name in contents if name.endswith("/RECORD"))
    if record:
        contents[own] = "".join(_row(name, content, own) for name, content in contents.items()).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, moment)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)


def _row(name: str, content: bytes, own: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},,\n" if name == own else f"{name},sha256={digest},{len(content)}\n"


def failures(small: Repository, dist: Path, artifact: str) -> Mapping[str, str]:
    """Of one artifact: what is wrong by our own checks, by name. Others' take a second each."""
    with pytest.MonkeyPatch.context() as patch:
        for table in ("WHEEL_CHECKS", "SDIST_CHECKS", "LINUX_CHECKS"):
            patch.setattr(others, table, {})
        checks = list(inspect(small, dist))
    return {check.name: check.detail for check in checks if check.artifact == artifact and check.passed is False}


def test_everything_that_was_built_passes(small: Repository, finished: Path) -> None:
    done = CliRunner().invoke(main, ["inspect", "--json", "--root", str(small.root), str(finished)])
    checks = json.loads(done.stdout)["checks"]
    assert [check for check in checks if check["passed"] is False] == []
    assert done.exit_code == 0
    looked_at = {check["artifact"] for check in checks}
    assert looked_at == {finished.name, *(path.name for path in finished.iterdir() if path.suffix in {".whl", ".gz"})}
    assert {"twine check --strict", "auditwheel", "check-wheel-contents", "pydistcheck"} <= {c["name"] for c in checks}


@pytest.mark.parametrize("made", [False, True], ids=["absent", "empty"])
def test_a_folder_without_artifacts_is_a_sentence(small: Repository, tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "dist"
    if made:
        folder.mkdir()
    done = CliRunner().invoke(main, ["inspect", "--root", str(small.root), str(folder)])
    assert done.exit_code == 1
    assert "holds no sdist and no wheel" in done.stderr


def test_artifacts_are_checked_alone_where_the_others_are_not_there(small: Repository, dist: Path) -> None:
    rewrite(wheel_of(dist, MAC), lambda files: files.update({"mogemma/weights.gguf": b"GGUF"}))
    alone = [str(wheel_of(dist, LINUX)), str(next(dist.glob("*.tar.gz")))]
    done = CliRunner().invoke(main, ["inspect", "--json", "--root", str(small.root), *alone])
    checks = json.loads(done.stdout)["checks"]
    assert done.exit_code == 0
    assert {check["artifact"] for check in checks} == {Path(file).name for file in alone}
    assert len(checks) > 15
    done = CliRunner().invoke(main, ["inspect", "--root", str(small.root), str(wheel_of(dist, MAC))])
    assert done.exit_code == 1
    assert "mogemma/weights.gguf" in done.stdout


def test_a_file_that_is_none_of_this_release_is_named(small: Repository, dist: Path, tmp_path: Path) -> None:
    other = wheel_of(dist, LINUX).rename(tmp_path / "mogemma-0.0.1-py3-none-any.whl")
    done = CliRunner().invoke(main, ["inspect", "--root", str(small.root), str(other)])
    assert done.exit_code == 1
    assert "is of this release: it publishes mogemma-" in done.stdout
    done = CliRunner().invoke(main, ["inspect", "--root", str(small.root), str(dist), str(tmp_path / "gone.whl")])
    assert done.exit_code == 1
    assert "There is no file" in done.stderr


def test_what_is_missing_or_too_much_is_named(small: Repository, dist: Path) -> None:
    name = wheel_of(dist, MAC).name
    wheel_of(dist, MAC).rename(dist / name.replace("py3-none", "cp312-cp312"))
    found = failures(small, dist, dist.name)
    assert f"{name} is missing" in found["every artifact, and nothing else"]
    assert "cp312-cp312-macosx_11_0_arm64.whl does not belong there" in found["every artifact, and nothing else"]
    assert "SHA256SUMS" in found


@pytest.mark.parametrize("keep", [0, 100, -500])
def test_a_cut_off_wheel_is_named_and_not_a_crash(small: Repository, dist: Path, keep: int) -> None:
    wheel = wheel_of(dist, LINUX)
    wheel.write_bytes(wheel.read_bytes()[:keep])
    assert "damaged" in failures(small, dist, wheel.name)["can be read"]


@pytest.mark.parametrize("keep", [0, 100, -500])
def test_a_cut_off_sdist_is_named_and_not_a_crash(small: Repository, dist: Path, keep: int) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    sdist.write_bytes(sdist.read_bytes()[:keep])
    assert "damaged" in failures(small, dist, sdist.name)["can be read"]


def test_a_changed_file_shows_in_record_and_in_git(small: Repository, dist: Path) -> None:
    wheel = wheel_of(dist, LINUX)
    rewrite(wheel, lambda files: files.update({"mogemma/errors.py": b"evil = True\n"}), record=False)
    found = failures(small, dist, wheel.name)
    assert "digest or size of mogemma/errors.py" in found["RECORD"]
    assert "not as in the commit: mogemma/errors.py" in found["files are the commit's, and all of them"]


def test_a_file_that_git_does_not_know_is_named(small: Repository, dist: Path) -> None:
    wheel = wheel_of(dist, MAC)
    rewrite(wheel, lambda files: files.update({"mogemma/weights.gguf": b"GGUF"}))
    assert failures(small, dist, wheel.name).keys() == {"files are the commit's, and all of them"}


def test_another_tag_inside_than_in_the_name_is_named(small: Repository, dist: Path) -> None:
    wheel = wheel_of(dist, LINUX)
    wheel.write_bytes(wheel_of(dist, PLATFORMS[1]).read_bytes())
    found = failures(small, dist, wheel.name)
    assert "manylinux_2_17_aarch64" in found["tag"]
    assert "kernels: architecture, exports, needed libraries, signature" in found


def test_a_kernel_for_another_processor_or_without_a_function_is_named(small: Repository, dist: Path) -> None:
    mac = wheel_of(dist, MAC)
    name = "kernels: architecture, exports, needed libraries, signature"

    def from_intel(files: dict[str, bytes]) -> None:
        with zipfile.ZipFile(wheel_of(dist, PLATFORMS[2])) as other:
            (library,) = [entry for entry in other.namelist() if entry.endswith(".dylib")]
            files["mogemma/_kernel/libmogemma-arm64_m1.dylib"] = other.read(library)

    rewrite(mac, from_intel)
    assert "is for X86_64" in failures(small, dist, mac.name)[name]

    linux = wheel_of(dist, LINUX)
    rewrite(linux, lambda files: _append(files, "mogemma/_kernel/mogemma.h", b"\nint mogemma_new(void);\n"))
    assert "lacks mogemma_new" in failures(small, dist, linux.name)[name]


def test_code_that_was_changed_after_it_was_signed_is_named(small: Repository, dist: Path) -> None:
    """macOS would end the process that loads it."""
    wheel = wheel_of(dist, MAC)

    def change(files: dict[str, bytes]) -> None:
        library = bytearray(files["mogemma/_kernel/libmogemma-arm64_m1.dylib"])
        library[600] ^= 1
        files["mogemma/_kernel/libmogemma-arm64_m1.dylib"] = bytes(library)

    rewrite(wheel, change)
    (detail,) = [text for name, text in failures(small, dist, wheel.name).items() if name.startswith("kernels")]
    assert "was changed after it had been signed (page 0)" in detail


def _append(files: dict[str, bytes], name: str, more: bytes) -> None:
    files[name] += more


@pytest.mark.parametrize(
    ("file", "old", "new", "check"),
    [
        ("METADATA", b"License-Expression: Apache-2.0", b"License: Apache", "metadata and licences (PEP 639)"),
        ("METADATA", b"Version: 0", b"Version: 9", "metadata and licences (PEP 639)"),
        ("sboms/mogemma.cdx.json", b'"CycloneDX"', b'"Cyclone', "SBOM (PEP 770)"),
        ("sboms/mogemma.cdx.json", b"numpy>=", b"numpy<", "SBOM (PEP 770)"),
    ],
)
def test_what_a_wheel_says_of_itself_is_checked(
    small: Repository, dist: Path, file: str, old: bytes, new: bytes, check: str
) -> None:
    wheel = wheel_of(dist, MAC)

    def change(files: dict[str, bytes]) -> None:
        (name,) = [name for name in files if name.endswith(f".dist-info/{file}")]
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    rewrite(wheel, change)
    assert check in failures(small, dist, wheel.name)


def test_what_others_complain_of_is_told(small: Repository, dist: Path) -> None:
    wheel = wheel_of(dist, LINUX)

    def change(files: dict[str, bytes]) -> None:
        (metadata,) = [name for name in files if name.endswith("/METADATA")]
        files[metadata] = files[metadata].partition(b"\n\n")[0] + b"\n\n"
        files["elsewhere.py"] = b""
        files["mogemma/_kernel/libmogemma-x86_64_v3.so"] = Path(sys.executable).resolve().read_bytes()

    rewrite(wheel, change)
    subject = Wheel(read_wheel(wheel), LINUX, Recipe.of(small))
    assert "long_description" in "".join(others.twine(subject))
    assert "W202" in "".join(others.check_wheel_contents(subject))
    if sys.platform == "linux":
        assert "it needs" in "".join(others.auditwheel(subject))


def test_an_extension_of_python_is_named(small: Repository, dist: Path) -> None:
    wheel = wheel_of(dist, LINUX)
    rewrite(wheel, lambda files: files.update({"mogemma/fast.abi3.so": b"\x7fELF\0PyInit_fast"}))
    found = failures(small, dist, wheel.name)
    assert "mogemma/fast.abi3.so" in found["no Python extension (abi3audit has nothing to audit)"]


def test_an_archive_that_would_write_outside_or_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.whl"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    with pytest.raises(ReleaseError, match="outside its folder"):
        archives.read_wheel(bad)

    link = tmp_path / "link.tar.gz"
    with tarfile.open(link, "w:gz") as packed:
        entry = tarfile.TarInfo("a/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(entry)
    with pytest.raises(ReleaseError, match="link or a device"):
        archives.read_sdist(link)

    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz") as packed:
        entry = tarfile.TarInfo("a/zeros")
        entry.size = 100_000
        packed.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(ReleaseError, match="would unpack to more"):
        archives.read_sdist(bomb)
