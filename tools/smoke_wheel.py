"""Install the built wheel alone into a new environment of every Python found, import it, and let it write one token.

    python tools/smoke_wheel.py [dist]

Pythons are looked for in PATH (python3.10 and newer) and among pyenv's. The token comes from Gemma 3 270M where
tools/fetch_models.py has put it; with MOGEMMA_REQUIRE_REAL_MODELS set, its absence is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 10)
MODEL = "gemma-3-270m-q4_k_m.gguf"
IMPORT = "import mogemma; print('import ok')"
GENERATE = """
import sys, mogemma
with mogemma.SyncGemmaModel(sys.argv[1]) as model:
    text = model.generate("The capital of France is", max_tokens=1, temperature=0.0)
assert text.strip(), "the model wrote nothing"
print("token ok:", text)
"""


def pythons() -> dict[tuple[int, int], Path]:
    """The interpreters of this machine, one of each version that mogemma supports."""
    found: dict[tuple[int, int], Path] = {}
    for candidate in _candidates():
        asked = [str(candidate), "-c", "import sys; print(*sys.version_info[:2])"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            major, minor = map(int, answer.stdout.split())
            if (major, minor) >= OLDEST:
                found.setdefault((major, minor), candidate)
    return dict(sorted(found.items()))


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for minor in range(OLDEST[1], 20):
        if path := shutil.which(f"python3.{minor}"):
            yield Path(path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from pyenv.glob("versions/3.*/bin/python3")


def smoke(python: Path, wheel: Path, model: Path | None) -> None:
    """Raises CalledProcessError when a step fails; the step has then said why on standard error."""
    uv = os.environ.get("UV", "uv")
    with tempfile.TemporaryDirectory() as temp:
        own = f"{temp}/env/bin/python"
        steps = [
            [uv, "venv", "--quiet", "--no-project", "--python", str(python), f"{temp}/env"],
            [uv, "pip", "install", "--quiet", "--python", own, str(wheel)],
            [own, "-I", "-c", IMPORT],
        ]
        if model:
            steps.append([own, "-I", "-c", GENERATE, str(model)])
        for step in steps:
            subprocess.run(step, cwd=temp, check=True)


def main() -> int:
    dist = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    wheels = list(dist.glob("mogemma-*-py3-none-*.whl"))
    if len(wheels) != 1:
        print(f"error: {dist} has {len(wheels)} wheels of mogemma, not one: run `make clean build`", file=sys.stderr)
        return 1
    models = Path(os.environ.get("MOGEMMA_MODELS") or Path.home() / ".cache" / "mogemma-models")
    model = models / MODEL if (models / MODEL).exists() else None
    if model is None and os.environ.get("MOGEMMA_REQUIRE_REAL_MODELS"):
        print(f"error: {models / MODEL} is missing: run tools/fetch_models.py", file=sys.stderr)
        return 1
    for version, python in pythons().items():
        print(f"{wheels[0].name} on Python {'.'.join(map(str, version))} ({python})", flush=True)
        try:
            smoke(python, wheels[0], model)
        except subprocess.CalledProcessError as error:
            print(f"error: status {error.returncode} from {' '.join(error.cmd[:3])} ...", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
