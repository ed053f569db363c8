"""Dependencies point one way: check every import in the library, its companions and the Mojo kernels.

    python tools/check_imports.py [REPOSITORY]

The layers below go from the top to the bottom: a unit (a module or folder directly under the sources) may import from
its own row and from the rows under it, and never in a circle. Who adds a unit puts its name in a row; one that is in no
row is a finding too. Prints one line for each finding; the exit status is 1 if there is any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Layers = Sequence[tuple[str, ...]]

LIBRARY = Path("packages/mogemma/src/mogemma")
LIBRARY_LAYERS: Layers = (
    ("__init__", "__main__", "cli", "commands"),
    ("async_model",),
    ("model", "embedding_model"),
    ("loaded_model",),
    ("chat", "generate", "embed", "info", "export"),
    ("answer_stream",),
    ("session", "sampling", "templates", "embedding_prompt", "tokenizer", "text_stream"),
    ("kv_cache",),
    ("config", "options", "completion"),
    ("hub",),
    ("architectures", "checkpoint", "library", "roofline", "weight_types"),
    ("_native",),
    ("cpu",),
    ("errors",),
)
KERNEL = Path("mojo/src")
KERNEL_LAYERS: Layers = (("abi",), ("model",), ("ops",), ("formats",), ("runtime",))

# They use what everybody may use: the names in mogemma/__init__.py. Nothing uses them.
COMPANIONS = {
    "mogemma_bench": Path("packages/mogemma-bench/src/mogemma_bench"),
    "mogemma_release": Path("packages/mogemma-release/src/mogemma_release"),
}


@dataclass(frozen=True)
class Import:
    """One import as it stands in a source file; `file` is relative to the sources' root.

    `module` is the full dotted name, relative imports resolved; for `from a import b` it is `a.b`, whatever b is.
    """

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.as_posix()}:{self.line} imports {self.module}"


def python_imports(root: Path) -> Iterator[Import]:
    """Every import in a Python package, wherever in a file it stands; `root` is the package's folder."""
    for file in sorted(root.rglob("*.py")):
        package = (root.name, *file.relative_to(root).parent.parts)
        for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = _resolve("." * node.level + (node.module or ""), package)
                modules = [f"{start}.{alias.name}" for alias in node.names]
            else:
                continue
            yield from (Import(file.relative_to(root), node.lineno, module) for module in modules)


_MOJO_SILENT = re.compile(r'"""[\s\S]*?"""|#[^\n]*')
_MOJO_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+\(?\s*(\w+)|import[ \t]+([.\w]+))", re.MULTILINE
)


def mojo_imports(root: Path) -> Iterator[Import]:
    """Every import in the Mojo sources under `root`, the folder that the compiler searches (`-I`)."""
    for file in sorted(root.rglob("*.mojo")):
        # Docstrings and comments become empty lines, so that the line numbers stay.
        source = _MOJO_SILENT.sub(lambda text: "\n" * text[0].count("\n"), file.read_text(encoding="utf-8"))
        for match in _MOJO_IMPORT.finditer(source):
            start, name, module = match.groups()
            if start:
                module = f"{_resolve(start, file.relative_to(root).parent.parts)}.{name}".removeprefix(".")
            yield Import(file.relative_to(root), source.count("\n", 0, match.start()) + 1, module)


def _resolve(name: str, package: Sequence[str]) -> str:
    """The full name of a relative one: one dot is the package itself, each further dot the folder above it."""
    rest = name.lstrip(".")
    dots = len(name) - len(rest)
    start = package[: len(package) - dots + 1] if dots else ()
    return ".".join([*start, *filter(None, [rest])])


def layer_findings(imports: Iterable[Import], layers: Layers, package: str = "") -> Iterator[str]:
    """What breaks the layers among the imports of one tree; `package` is what the full names of its units begin with."""
    rows = {unit: row for row, units in enumerate(layers) for unit in units}
    uses: dict[str, set[str]] = {}
    for found in imports:
        unit = found.file.with_suffix("").parts[0]
        used = _unit(found.module, package, rows)
        if unit not in rows:
            yield f"{found.file.as_posix()} is in no layer: put {unit} in a row of tools/check_imports.py"
        elif used in rows and rows[used] < rows[unit]:
            below = ", ".join(name for row in layers[rows[unit] + 1 :] for name in row)
            yield f"{found}: {unit} may use {below or 'none of the others'}"
        elif used in rows and used != unit:
            uses.setdefault(unit, set()).add(used)
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        yield f"imports go in a circle: {' -> '.join(reversed(error.args[1]))}"


def _unit(module: str, package: str, units: Container[str]) -> str:
    """The unit that an imported name belongs to: `__init__` for a public name of the package, '' for others' names."""
    parts = module.split(".")
    if package and parts.pop(0) != package:
        return ""
    if package and (not parts or (len(parts) == 1 and parts[0] not in units)):
        return "__init__"
    return parts[0]


def border_findings(package: str, imports: Iterable[Import], library_units: Container[str]) -> Iterator[str]:
    """What crosses a border that only one file or one package may cross."""
    for found in imports:
        parts = found.module.split(".")
        if parts[0] == "cffi" and (package, found.file) != ("mogemma", Path("_native/kernel.py")):
            yield f"{found}: only mogemma/_native/kernel.py may"
        elif parts[0] in COMPANIONS and parts[0] != package:
            yield f"{found}: nothing may use {parts[0]}"
        elif parts[0] == "mogemma" != package and (len(parts) > 2 or parts[-1] in library_units):
            yield f"{found}: {package} may use the names in mogemma/__init__.py"


def repository_findings(repository: Path) -> Iterator[str]:
    library = repository / LIBRARY
    units = {path.stem for path in library.iterdir()}
    yield from layer_findings(python_imports(library), LIBRARY_LAYERS, "mogemma")
    yield from layer_findings(mojo_imports(repository / KERNEL), KERNEL_LAYERS)
    for package, folder in {"mogemma": LIBRARY, **COMPANIONS}.items():
        yield from border_findings(package, python_imports(repository / folder), units)


def main(arguments: Sequence[str]) -> int:
    repository = Path(arguments[0] if arguments else ".")
    if not (repository / LIBRARY).is_dir() or not (repository / KERNEL).is_dir():
        print(
            f"{repository.resolve()} is not mogemma's repository: it has no {LIBRARY} or no {KERNEL}", file=sys.stderr
        )
        return 2
    found = sorted(set(repository_findings(repository)))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
