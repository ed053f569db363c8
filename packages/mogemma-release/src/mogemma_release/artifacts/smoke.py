"""Does what was built run? Each artifact goes alone into a new environment, is imported, and writes one token.

The token comes from Gemma 3 270M where tools/fetch_models.py has put it. What cannot be run on this machine is named, with
the reason.
"""

from __future__ import annotations

import os
import platform as machine
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import process
from ..errors import ReleaseError
from ..matrix import PACKAGE, PLATFORMS, Platform
from ..repository import Repository
from .build import Report, artifacts_in
from .checks import Check
from .pythons import pythons

MODEL = "gemma-3-270m-q4_k_m.gguf"
LIMIT_SECONDS = 15 * 60.0
"""For one environment: an sdist compiles a kernel, and an emulated processor takes its time."""

PROGRAM = """
import sys, mogemma
print("import ok:", mogemma.__file__)
if sys.argv[1:]:
    with mogemma.SyncGemmaModel(sys.argv[1]) as model:
        text = model.generate("The capital of France is", max_tokens=1, temperature=0.0)
    assert text.strip(), "the model wrote nothing"
    print("token ok:", text)
"""


def find_model() -> Path | None:
    """The model that writes the token.

    Raises:
        ReleaseError: It is missing, and MOGEMMA_REQUIRE_REAL_MODELS says that it may not.
    """
    folder = Path(os.environ.get("MOGEMMA_MODELS") or Path.home() / ".cache" / "mogemma-models")
    if (folder / MODEL).is_file():
        return folder / MODEL
    if os.environ.get("MOGEMMA_REQUIRE_REAL_MODELS"):
        raise ReleaseError(f"{folder / MODEL} is missing: run tools/fetch_models.py.")
    return None


def smoke(repository: Repository, folder: Path, model: Path | None, report: Report = lambda _: None) -> Iterator[Check]:
    """How each artifact in a folder ran, on each Python.

    Raises:
        ReleaseError: There are none.
    """
    artifacts = [file for file in artifacts_in(folder) if file.name.startswith(f"{PACKAGE}-")]
    if not artifacts:
        raise ReleaseError(f"{folder} holds no sdist and no wheel of {PACKAGE}. `make build` or `make wheels` does.")
    found = pythons()
    for file in artifacts:
        if file.suffix == ".gz":
            newest = max(found)
            yield _ran(
                file, f"Python {_dotted(newest)}, built here", _install_and_run(found[newest], file, model), report
            )
        elif (platform := _platform(file)) is None:
            yield Check(
                file.name, "import and a token", passed=False, detail="its name has the tag of no platform of mogemma"
            )
        elif platform.name == _this_platform():
            for version, python in found.items():
                yield _ran(file, f"Python {_dotted(version)}", _install_and_run(python, file, model), report)
        elif reason := _why_not(platform):
            yield Check(file.name, "import and a token", passed=None, detail=reason)
        else:
            yield _ran(file, "under qemu", [_emulated(repository, file, model)], report)


def _platform(wheel: Path) -> Platform | None:
    return next((platform for platform in PLATFORMS if wheel.stem.endswith(f"-py3-none-{platform.wheel_tag}")), None)


def _this_platform() -> str:
    return f"{'macos' if sys.platform == 'darwin' else sys.platform}-{machine.machine()}"


def _why_not(platform: Platform) -> str:
    """Why a wheel of another platform cannot be run here; nothing if qemu can."""
    if platform.system != "linux" or sys.platform != "linux":
        return f"this machine is {_this_platform()}"
    if platform.arch != "aarch64":
        return f"tools/smoke_aarch64.py emulates aarch64, not {platform.arch}"
    lacking = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if not any(map(shutil.which, ("qemu-aarch64", "qemu-aarch64-static"))):
        lacking.append("qemu-aarch64, of Debian's package qemu-user")
    return f"there is no {', no '.join(lacking)}" if lacking else ""


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _install_and_run(python: Path, file: Path, model: Path | None) -> list[list[str]]:
    uv = os.environ.get("UV", "uv")
    own = "env/bin/python"
    return [
        [uv, "venv", "--quiet", "--no-project", "--python", str(python), "env"],
        [uv, "pip", "install", "--quiet", "--no-config", "--python", own, str(file.resolve())],
        [own, "-I", "-c", PROGRAM, *([str(model)] if model else [])],
    ]


def _emulated(repository: Repository, file: Path, model: Path | None) -> list[str]:
    tool = repository.root / "tools" / "smoke_aarch64.py"
    return [sys.executable, str(tool), "--wheel", str(file.resolve()), "-c", PROGRAM, *([str(model)] if model else [])]


def _ran(file: Path, name: str, steps: Sequence[Sequence[str]], report: Report) -> Check:
    report(f"{file.name}, {name}")
    with tempfile.TemporaryDirectory(prefix="mogemma-smoke-") as temp:
        log = Path(temp, "log")
        told = ""
        for step in steps:
            variables = {
                "MOGEMMA_CPU_LEVELS": "native"
            }  # of an sdist; a kernel for other machines cannot be tried here
            ran = process.run(step, Path(temp), log, limit_seconds=LIMIT_SECONDS, variables=variables)
            told = log.read_text(encoding="utf-8", errors="replace").strip()
            if not ran.passed:
                why = f"ended after {LIMIT_SECONDS:.0f} s" if ran.timed_out else f"status {ran.exit_status}"
                said = " / ".join(told.splitlines()[-8:])
                return Check(file.name, name, passed=False, detail=f"{why} from {Path(step[0]).name}: {said}")
    return Check(file.name, name, passed=True, detail=_what_ran(told))


def _what_ran(told: str) -> str:
    """Which of the program's two promises it kept; without a model there is only the first."""
    return "import and a token" if "token ok:" in told else "import; no token, for there is no model"
