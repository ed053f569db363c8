"""Run mogemma as built for Linux on aarch64, on any Linux, under qemu's emulation of single programs.

    python tools/smoke_aarch64.py                   products and tiny models at each CPU level, compared with this machine's
    python tools/smoke_aarch64.py TEST [OPTION ...] tests of the library instead, by pytest
    python tools/smoke_aarch64.py --wheel WHEEL ARGUMENT ...   that wheel instead of one built here; the rest is for its Python

The wheel is built for aarch64, and put beside an aarch64 Python of Debian's and aarch64 wheels of all it needs in
build/aarch64; nothing of that is installed on this machine. Without `qemu-aarch64` (Debian's package qemu-user) nothing is
done, and said so; apt-get, dpkg and uv have to be there then.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "aarch64"
TESTS = ROOT / "packages" / "mogemma" / "tests"
TOLERANCE = 2e-3
"""Of logits in float32 arithmetic. Products are the same to the bit, but where else a compiler may fuse a multiplication and
an addition, it does so on one architecture and not on the other."""

PYTHON_PACKAGES = ("python3", "libstdc++6")
NEEDED_BY_TESTS = ("gguf", "ml-dtypes", "pytest", "pytest-timeout", "safetensors", "sentencepiece", "tokenizers")

DOTPROD = "fp asimd crc32 atomics fphp asimdhp asimdrdm lrcpc asimddp"
CPUS: Mapping[str, tuple[str, str]] = {
    "aarch64_dotprod": ("neoverse-n1", DOTPROD),
    "aarch64_i8mm": ("max", f"{DOTPROD} i8mm bf16"),
}
"""Of each level: the processor that qemu is, and what /proc/cpuinfo says of it."""

BEST = "aarch64_i8mm"

PROGRAM = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
tests, level = sys.argv[1:]
sys.path.insert(0, tests)
from blocks import FLOATS, QUANTISED, random_matrix
from models import make_engine, make_model
from mogemma import SyncGemmaModel
x = np.random.default_rng(1).standard_normal((20, 768)).astype(np.float32)
products, logits = {}, {}
for arithmetic in ("INT8", "FLOAT32", "BFLOAT16"):
    model = make_model(hidden_dim=64, mlp_dim=768)
    engine = make_engine(model, level=level or None, arithmetic=f"MOGEMMA_{arithmetic}", max_tokens=20, n_threads=2)
    for kind in (*QUANTISED, *FLOATS):
        matrix = random_matrix(kind, 48, 768)
        found = b"".join(engine.matmul(matrix, x[:n]).tobytes() for n in (1, 20))
        products[f"{kind.name} {arithmetic.lower()}"] = hashlib.sha256(found).hexdigest()
for name in ("gemma2", "gemma3-text", "gemma3n-text", "gemma4-e2b", "gemma4-moe", "quant-zoo/model.gguf"):
    with SyncGemmaModel(Path(tests, "data", "tiny", name), arithmetic="float32", threads=2) as model:
        logits[name] = model.logits(range(2, 60)).astype(float).ravel().tolist()
        used = model.info.level
print(json.dumps({"level": used, "products": products, "logits": logits}))
"""


def main(arguments: Sequence[str]) -> int:
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if qemu is None:
        print("aarch64 is not tried: there is no qemu-aarch64. On Debian, apt-get install qemu-user brings it.")
        return 0
    if not (FOLDER / "root").exists():
        _python(FOLDER / "root")
    if arguments[:1] == ["--wheel"]:
        return run_wheel(qemu, Path(arguments[1]), arguments[2:])
    prepare([*NEEDED_BY_TESTS] if arguments else [])
    if arguments:
        options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=1800", *arguments]
        return subprocess.run(emulated(qemu, BEST, options), env=environment(), check=False).returncode
    found = {level: differs(qemu, level) for level in CPUS}
    return 1 if any(found.values()) else 0


def prepare(tests_need: Sequence[str]) -> None:
    """Fill build/aarch64/site: the wheel and what it needs, as they are now."""
    with tempfile.TemporaryDirectory() as temp:
        build = ["build", "--quiet", "--wheel", "--package", "mogemma", "--out-dir", temp]
        _uv(*build, _PYTHON_HOST_PLATFORM="linux-aarch64", MOGEMMA_CPU_LEVELS="")
        (wheel,) = Path(temp).glob("*.whl")
        shutil.rmtree(FOLDER / "site", ignore_errors=True)
        _install(FOLDER / "site", wheel, *tests_need)


def run_wheel(qemu: str, wheel: Path, arguments: Sequence[str]) -> int:
    """Run the emulated Python at each level, with a wheel and what that needs and nothing else; its exit status if it fails."""
    with tempfile.TemporaryDirectory() as site:
        _install(Path(site), wheel)
        for level in CPUS:
            print(f"{level}:", flush=True)
            done = subprocess.run(emulated(qemu, level, arguments), env=environment(Path(site)), check=False)
            if done.returncode:
                return done.returncode
    return 0


def _install(site: Path, wheel: Path, *more: str) -> None:
    platform = ["--python-platform", "aarch64-unknown-linux-gnu", "--python-version", python_version()]
    install = ["pip", "install", "--quiet", "--only-binary", ":all:", "--target", str(site)]
    _uv(*install, *platform, str(wheel), *more)


def _uv(*arguments: str, **variables: str) -> None:
    command = [os.environ.get("UV", "uv"), "--no-progress", *arguments]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True)


def _python(root: Path) -> None:
    """Unpack Debian's Python for aarch64, and the libraries that it needs, into a folder."""
    with tempfile.TemporaryDirectory() as temp:
        for folder in ("state/lists/partial", "cache/archives/partial", "root"):
            Path(temp, folder).mkdir(parents=True)
        Path(temp, "state/status").touch()  # nothing is installed yet in what apt-get thinks is the system
        own = {"Dir::State": "state", "Dir::Cache": "cache", "Dir::State::status": "state/status"}
        options = [part for name, path in own.items() for part in ("-o", f"{name}={temp}/{path}")]
        options += ["-o", "APT::Architecture=arm64", "-o", "APT::Architectures::=arm64", "-o", "APT::Sandbox::User="]
        _quietly("apt-get", *options, "-qq", "update")
        fetch = ["install", "--download-only", "--no-install-recommends", "--yes"]
        _quietly("apt-get", *options, "-qq", *fetch, *PYTHON_PACKAGES)
        for package in sorted(Path(temp, "cache/archives").glob("*.deb")):
            _quietly("dpkg-deb", "--extract", str(package), f"{temp}/root")
        root.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(f"{temp}/root", root)


def _quietly(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{done.stdout}")


def python_version() -> str:
    """Of the emulated Python: 3.11."""
    found = sorted((FOLDER / "root" / "usr" / "bin").glob("python3.*[0-9]"))
    return found[0].name.removeprefix("python")


def emulated(qemu: str, level: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs the emulated Python on a processor of that level."""
    cpu, features = CPUS[level]
    root = FOLDER / "root"
    cpuinfo = root / "proc" / "cpuinfo"  # qemu looks for files there first
    cpuinfo.parent.mkdir(exist_ok=True)
    cpuinfo.write_text(f"processor\t: 0\nFeatures\t: {features}\n", encoding="utf-8")
    python = root / "usr" / "bin" / f"python{python_version()}"
    return [qemu, "-cpu", cpu, "-L", str(root), str(python), *arguments]


def environment(site: Path = FOLDER / "site") -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MOGEMMA_"))}
    return {**ours, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}


def differs(qemu: str, level: str) -> bool:
    """Whether something is not what this machine computes; says what."""
    program = ["-c", PROGRAM, str(TESTS)]
    theirs = _computed([*emulated(qemu, level, program), level], environment())
    ours = _computed([sys.executable, *program, ""], None)
    wrong = [name for name, digest in ours["products"].items() if theirs["products"][name] != digest]
    for name, logits in ours["logits"].items():
        difference = max(abs(a - b) for a, b in zip(logits, theirs["logits"][name], strict=True))
        print(f"{level}: logits of {name} differ by {difference:.1e} from those of {ours['level']}")
        if difference > TOLERANCE:
            wrong.append(f"logits of {name}")
    if theirs["level"] != level:
        wrong.append(f"{theirs['level']} is taken for the best level")
    n_same = len(ours["products"]) - sum(name in ours["products"] for name in wrong)
    print(f"{level}: {n_same} of {len(ours['products'])} products are the same to the bit")
    for name in wrong:
        print(f"{level} FAILED: {name}")
    return bool(wrong)


def _computed(command: Sequence[str], variables: Mapping[str, str] | None) -> Any:
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
