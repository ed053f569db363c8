"""All names that a document may use: words of the code, members of classes and structs, and paths."""

from __future__ import annotations

import ast
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

HEADER = Path("mojo/include/mogemma.h")
_PYTHON = ("packages/*/src/**/*.py", "packages/*/*.py", "tools/*.py")
_TESTS = ("packages/*/tests/**/*.py", "tools/tests/*.py")
_MOJO = ("mojo/**/*.mojo",)
_CONFIGURATION = ("Makefile", "pyproject.toml", "packages/*/pyproject.toml")
_ARRAYS = ("packages/*/tests/data/**/*.npz",)
_SKIPPED = frozenset({"__pycache__", "build", "dist", "node_modules"})

_WORD = re.compile(r"\w+")
_HYPHENATED = re.compile(r"[\w.-]+\w")
_MOJO_SILENT = re.compile(r'"""[\s\S]*?"""|#[^\n]*')
_C_SILENT = re.compile(r"/\*[\s\S]*?\*/")


@dataclass(frozen=True)
class Known:
    """What exists.

    Attributes:
        code: All sources as text, without what Mojo and C keep silent about.
        words: Every word of them: names in Python, Mojo and C, and words in strings; of Makefile, pyproject.toml and test data too.
        literals: Whole strings of the Python code.
        members: Fields and methods of each class, struct and trait.
        paths: Files and folders, relative to the repository.
    """

    code: str
    words: frozenset[str]
    literals: frozenset[str]
    members: Mapping[str, frozenset[str]]
    paths: frozenset[str]


def read_known(repository: Path) -> Known:
    """Read the repository; its packages must be the ones that are installed."""
    names = _Names()
    for text in _texts(repository, _PYTHON):
        names.add_python(text)
    for text in _texts(repository, _TESTS):
        names.add_test(text)
    for text in _texts(repository, _MOJO):
        names.add_mojo(_MOJO_SILENT.sub("", text))
    names.add_header(_C_SILENT.sub("", (repository / HEADER).read_text(encoding="utf-8")))
    for text in _texts(repository, _CONFIGURATION):
        names.add_words(text)
    for file in _files(repository, _ARRAYS):
        with zipfile.ZipFile(file) as arrays:
            names.words.update(Path(name).stem for name in arrays.namelist())
    return Known(
        code="\n".join(names.sources),
        words=frozenset(names.words),
        literals=frozenset(names.literals),
        members={owner: frozenset(members) for owner, members in names.members.items()},
        paths=frozenset(_paths(repository)),
    )


class _Names:
    """Gathers words, strings and members; docstrings and comments do not count."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.words: set[str] = set()
        self.literals: set[str] = set()
        self.members: defaultdict[str, set[str]] = defaultdict(set)

    def add_python(self, text: str) -> None:
        self.sources.append(text)
        module = ast.parse(text)
        docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
        for node in ast.walk(module):
            self.words.update(_names_of(node))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                self.literals.add(node.value)
                self.add_words(node.value)
            elif isinstance(node, ast.ClassDef):
                self.members[node.name].update(chain(*map(_given_by, ast.walk(node))))
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                self.members[node.name].update(*(self.members.get(getattr(base, "id", ""), ()) for base in node.bases))

    def add_test(self, text: str) -> None:
        """Of tests only what they define."""
        for node in ast.parse(text).body:
            self.words.update(_names_of(node))
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                self.words.update(chain(*map(_given_by, ast.walk(node))))

    def add_mojo(self, code: str) -> None:
        self.sources.append(code)
        self.words.update(_WORD.findall(code))
        for block in re.finditer(r"^(?:struct|trait) (\w+)[\s\S]*?(?=^[\w@\"]|\Z)", code, re.MULTILINE):
            self.members[block[1]].update(re.findall(r"^    (?:def|var|comptime) (\w+)", block[0], re.MULTILINE))

    def add_header(self, code: str) -> None:
        self.sources.append(code)
        self.words.update(_WORD.findall(code))
        for fields, struct in re.findall(r"typedef struct \{([^}]*)\} (\w+);", code):
            self.members[struct].update(re.findall(r"(\w+);", fields))

    def add_words(self, text: str) -> None:
        self.words.update(_WORD.findall(text))
        self.words.update(_HYPHENATED.findall(text))


def _names_of(node: ast.AST) -> Iterator[str]:
    """Names that a node uses or defines."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.arg, ast.keyword)):
        yield node.arg or ""
    elif isinstance(node, ast.alias):
        yield from node.name.split(".")
    elif isinstance(node, ast.ImportFrom):
        yield from (node.module or "").split(".")


def _given_by(node: ast.AST) -> Iterator[str]:
    """Names that a node inside a class, or at the top of a test, gives to it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


def _files(repository: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        found = repository.glob(pattern)
        yield from (file for file in found if not _SKIPPED.intersection(file.relative_to(repository).parts))


def _texts(repository: Path, patterns: Iterable[str]) -> Iterator[str]:
    return (file.read_text(encoding="utf-8") for file in _files(repository, patterns))


def _paths(repository: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(repository):
        folders[:] = [name for name in folders if name not in _SKIPPED and (name == ".github" or name[0] != ".")]
        at = Path(folder).relative_to(repository)
        yield from ((at / name).as_posix() for name in (*folders, *files))
