"""The engines that mogemma is compared with, one a file; none is installed with the bench.

A rival with a Python package is a file with a class `Engine` that runs in the Python that has the package, and imports
nothing of ours (`compare/worker.py` loads it). A rival that is a program is a class that runs it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..compare.python_rival import PythonRival
from ..compare.rival import Rival, Setting
from ..engine import Precision
from ..errors import BenchError, OptionError
from .llama_bench import LlamaBench

_HERE = Path(__file__).parent

PACKAGES = {
    "llama-cpp-python": "llama_cpp_python.py",
    "ik-llama-cpp-python": "ik_llama_cpp_python.py",
    "sentence-transformers": "sentence_transformers.py",
}
PROGRAMS = {"llama-bench": LlamaBench, "ik-llama-bench": LlamaBench}
NAMES = (*PACKAGES, *PROGRAMS)


@dataclass(frozen=True, slots=True)
class Choice:
    """A rival as it was asked for.

    Attributes:
        path: Of the Python that has its package, or of the program; None: the Python that runs this, or the one in PATH.
        arguments: Further ones of a program.
    """

    name: str
    path: str | None = None
    arguments: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise OptionError(f"There is no rival {self.name!r}; there are {', '.join(NAMES)}.")
        if self.arguments and self.name in PACKAGES:
            raise OptionError(f"{self.name} takes no further arguments: they are for {' and '.join(PROGRAMS)}.")

    def open(self, setting: Setting) -> Rival:
        """Load it, or find it.

        Raises:
            BenchError: It is not there, or does not run.
        """
        if self.name in PACKAGES:
            return PythonRival(self.name, self.path or sys.executable, _HERE / PACKAGES[self.name], setting)
        program = self.path or shutil.which(self.name)
        if program is None:
            raise BenchError(f"{self.name} is not in PATH. Say where it is: --rival {self.name}=FILE.")
        return PROGRAMS[self.name](self.name, program, self.arguments, setting)


def open_mogemma(setting: Setting, precision: Precision) -> PythonRival:
    """mogemma itself, by the same way as the others."""
    return PythonRival("mogemma", sys.executable, _HERE / "mogemma.py", setting, **precision.keywords())
