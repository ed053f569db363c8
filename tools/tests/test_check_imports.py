from __future__ import annotations

from pathlib import Path

import pytest

import check_imports
from check_imports import layer_findings, main, mojo_imports, python_imports

LAYERS = (("__init__",), ("model",), ("session", "sampling"), ("_native",), ("errors",))


def write(root: Path, **files: str) -> Path:
    """Files under `root`; in a name `__` stands for a folder and the suffix comes from `root`'s own name."""
    suffix = ".mojo" if root.name == "src" else ".py"
    for name, text in files.items():
        file = root.joinpath(*name.split("__")).with_suffix(suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def python_findings(tmp_path: Path, **files: str) -> list[str]:
    root = write(tmp_path / "mogemma", **files)
    return list(layer_findings(python_imports(root), LAYERS, "mogemma"))


def mojo_findings(tmp_path: Path, **files: str) -> list[str]:
    root = write(tmp_path / "src", **files)
    return list(layer_findings(mojo_imports(root), check_imports.KERNEL_LAYERS))


def test_imports_downwards_and_within_a_row_are_fine(tmp_path: Path) -> None:
    assert not python_findings(
        tmp_path,
        model="import numpy\nfrom .session import Session\nfrom mogemma.errors import MogemmaError\n",
        session="from . import _native, sampling\n",
        sampling="",
        _native="from .errors import KernelError\n",
        errors="import sys\n",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "from .model import Model",
        "from . import model",
        "import mogemma.model",
        "from mogemma.model import Model",
        "from mogemma import model as m",
        "def late():\n    from .model import Model",
        "if TYPE_CHECKING:\n    from .model import Model",
    ],
)
def test_an_import_upwards_is_found_however_it_is_written(tmp_path: Path, statement: str) -> None:
    (finding,) = python_findings(tmp_path, session=f"{statement}\n", model="")
    assert finding.startswith("session.py:")
    assert finding.endswith("session may use _native, errors")


def test_a_public_name_of_the_package_counts_as_its_top(tmp_path: Path) -> None:
    (finding,) = python_findings(tmp_path, errors="from mogemma import SyncGemmaModel\n")
    assert finding == "errors.py:1 imports mogemma.SyncGemmaModel: errors may use none of the others"


def test_relative_imports_inside_a_folder_are_resolved(tmp_path: Path) -> None:
    (finding,) = python_findings(tmp_path, session__ring="from .page import Page\nfrom ..model import Model\n")
    assert finding == "session/ring.py:2 imports mogemma.model.Model: session may use _native, errors"


def test_a_circle_within_a_row_is_found(tmp_path: Path) -> None:
    (finding,) = python_findings(tmp_path, session="from . import sampling\n", sampling="from . import session\n")
    assert finding.startswith("imports go in a circle: ")


def test_a_module_in_no_row_is_found(tmp_path: Path) -> None:
    (finding,) = python_findings(tmp_path, extra="import sys\n")
    assert finding.startswith("extra.py is in no layer")


def test_words_in_strings_are_no_imports(tmp_path: Path) -> None:
    assert not python_findings(tmp_path, errors='"""\nfrom .model import Model\n"""\n# from .model import Model\n')


def test_mojo_imports_upwards_are_found(tmp_path: Path) -> None:
    assert mojo_findings(tmp_path, ops__rope="from std.math import cos\n\nfrom model.spec import Spec\n") == [
        "ops/rope.mojo:3 imports model.spec.Spec: ops may use formats, runtime"
    ]


def test_mojo_imports_downwards_and_relative_ones_are_fine(tmp_path: Path) -> None:
    assert not mojo_findings(
        tmp_path,
        abi="from model.decode import decode\nfrom runtime.views import F32Ptr\n",
        model__decode="from .layer import (\n    run,\n)\nfrom ops.rope import rope\n",
        ops__rope='def rope():\n    """Turn.\n\n    from model import nothing\n    """\n    # from model.x import y\n',
    )


def test_mojo_relative_imports_out_of_the_folder_are_resolved(tmp_path: Path) -> None:
    (finding,) = mojo_findings(tmp_path, formats__q8="from ..ops.dots import dot\n")
    assert finding == "formats/q8.mojo:1 imports ops.dots.dot: formats may use runtime"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path / check_imports.LIBRARY, __init__="", _native__kernel="import cffi\n", errors="")
    write(tmp_path / check_imports.KERNEL, abi="from ops.rope import rope\n", ops__rope="")
    write(tmp_path / "packages/mogemma-bench/src/mogemma_bench", cli="from mogemma import SyncGemmaModel\n")
    return tmp_path


def test_a_sound_repository_has_no_findings(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(repository)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "source", "finding"),
    [
        ("packages/mogemma/src/mogemma/errors.py", "from cffi import FFI\n", "only mogemma/_native/kernel.py may"),
        ("packages/mogemma/src/mogemma/errors.py", "import mogemma_bench\n", "nothing may use mogemma_bench"),
        (
            "packages/mogemma-bench/src/mogemma_bench/cli.py",
            "from mogemma.errors import MogemmaError\n",
            "mogemma_bench may use the names in mogemma/__init__.py",
        ),
        (
            "packages/mogemma-bench/src/mogemma_bench/cli.py",
            "from mogemma import _native\n",
            "mogemma_bench may use the names in mogemma/__init__.py",
        ),
        ("mojo/src/ops/rope.mojo", "from abi import decode\n", "ops may use formats, runtime"),
    ],
)
def test_each_crossed_border_is_one_line_and_fails_the_check(
    repository: Path, capsys: pytest.CaptureFixture[str], file: str, source: str, finding: str
) -> None:
    (repository / file).write_text(source, encoding="utf-8")
    assert main([str(repository)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(finding)


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer from the wrong folder would read as a clean one."""
    assert main([str(tmp_path)]) == 2
    assert "is not mogemma's repository" in capsys.readouterr().err
