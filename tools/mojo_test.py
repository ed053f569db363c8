"""Run the tests of the Mojo kernels, two at a time.

    python tools/mojo_test.py [--cpu NAME] [FILE ...]        (default: all in mojo/tests)

Each file is a program of its own. A file that fails has all its output printed; the exit status is then 1. `--cpu` runs
them as they are compiled for a processor (x86-64-v3, for one), as far as this machine can.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MOJO = Path(__file__).resolve().parent.parent / "mojo"
AT_ONCE = 2
TIMEOUT_S = 300


@dataclass(frozen=True)
class Result:
    """What became of a file; `output` holds what it printed, errors among it."""

    file: Path
    has_passed: bool
    seconds: float
    output: str


def find_compiler() -> Path:
    """The `mojo` command of the environment that this runs in."""
    compiler = Path(sysconfig.get_path("scripts")) / "mojo"
    if not compiler.exists():
        raise SystemExit(f"error: {compiler} is missing. Run `make install`, or install mojo-compiler.")
    return compiler


def run_test(compiler: Path, file: Path, *, cpu: str | None = None) -> Result:
    """Compile and run one file of tests."""
    flags = ["--Werror", "-I", str(MOJO / "src"), "-I", str(MOJO / "tests")]
    target = ["--target-cpu", cpu] if cpu else []
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [str(compiler), "run", *flags, *target, str(file)],
            env={**os.environ, "MODULAR_TELEMETRY_ENABLED": "false"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        output, has_passed = done.stdout.decode(errors="replace"), done.returncode == 0
    except subprocess.TimeoutExpired as error:
        output, has_passed = f"{(error.stdout or b'').decode(errors='replace')}\nended after {TIMEOUT_S} s", False
    return Result(file, has_passed, time.perf_counter() - started, output)


def shown(file: Path) -> str:
    """A file by its path in the repository."""
    return str(file.relative_to(MOJO.parent) if file.is_relative_to(MOJO.parent) else file)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the tests of the Mojo kernels.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: every test_*.mojo in mojo/tests")
    parser.add_argument("--cpu", metavar="NAME", help="compile for this processor, not the one at hand")
    chosen = parser.parse_args(arguments)
    files = chosen.files or sorted((MOJO / "tests").rglob("test_*.mojo"))
    if not files:
        raise SystemExit(f"error: there is no test in {MOJO / 'tests'}.")
    compiler = find_compiler()
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(lambda file: run_test(compiler, file, cpu=chosen.cpu), files):
            verdict = "ok    " if result.has_passed else "FAILED"
            print(f"{verdict} {shown(result.file)} ({result.seconds:.1f} s)", flush=True)
            if not result.has_passed:
                failed += 1
                print(result.output, flush=True)
    print(f"{len(files) - failed} of {len(files)} files of Mojo tests passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
