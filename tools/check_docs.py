"""Documentation names only what exists: check the code spans, commands, excerpts and links of the Markdown files.

    python tools/check_docs.py [REPOSITORY]

What is checked, in backticks and in fenced blocks:
    `make test`                      the target is in the Makefile
    `mogemma chat --system`          the command has that option; also bench, release and the scripts in tools/
    `ops/rope.mojo`, `session.py`    some path of the repository ends so; * and <name> stand for anything
    `Session.prefill`, `mogemma_layer.n_before`    the class or struct has that member
    `mogemma.session.Runner`         can be imported
    `n_slots`                        the code has that word: a name in Python, Mojo or the header, or in a string
    `SEGMENT = 1024`                 the code says just that
    ```mojo mojo/src/ops/rope.mojo   the block stands in that file as it is here; a line `...` stands for lines left out
Prints one line for each finding; the exit status is 1 if there is any.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from known_commands import Commands
from known_names import read_known

OUTSIDE = frozenset({"_PYTHON_HOST_PLATFORM", "pytest", "sha256sum", "macosx-11.0-arm64"})
"""Names that others define and no code here spells."""

PACKAGES = frozenset({"mogemma", "mogemma_bench", "mogemma_release"})
"""Where dotted names can be imported from."""

GENERATED = frozenset({"_kernel", "build", "dist", "evidence", ".venv"})
"""Folders that a fresh clone does not have."""

_SUFFIXES = "gguf h json lock mbox md model mojo npz o py safetensors so toml yml".split()
_PATH = re.compile(rf"[~\w.*/-]*/[\w.*/-]*|[\w*-][\w.*-]*\.(?:{'|'.join(_SUFFIXES)})")
_WORD = re.compile(r"\.?[A-Za-z_][\w-]*(?:\.[A-Za-z_]\w*)*")
_CODE_LIKE = re.compile(r"_|\w\.\w|[a-z][A-Z]|^[A-Z0-9_]{3,}$")
_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_PLACEHOLDER = re.compile(r"<[\w /]+>")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z][A-Z_]+ = \S+")
_OPTION = re.compile(r"--[a-z].*|-[a-z]")
_SHELL = ("sh", "console", "bash")


@dataclass(frozen=True)
class Span:
    """Code in a document: what stands in backticks, or a fenced block with its info string."""

    line: int
    text: str
    info: str | None = None


def spans(markdown: str) -> Iterator[Span]:
    """Every code span and fenced block."""
    block: list[str] | None = None
    info, start = "", 0
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.lstrip().startswith("```"):
            if block is None:
                block, info, start = [], line.strip().strip("`").strip(), number
            else:
                yield Span(start, "\n".join(block), info)
                block = None
        elif block is not None:
            block.append(line)
        else:
            yield from (Span(number, text) for text in re.findall(r"`([^`]+)`", line))


class Checker:
    """Holds documents to what is known of a repository."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._known = read_known(repository)
        self._commands = Commands(repository)

    def findings(self, markdown: str, folder: Path) -> Iterator[str]:
        """One sentence, after the line's number, for each thing that a document in `folder` names and that does not exist."""
        for span in spans(markdown):
            wrong = self._in_text(span.text) if span.info is None else self._in_block(span.text, span.info)
            yield from (f"{span.line} {finding}" for finding in wrong)
        prose = _CODE.sub(lambda code: "\n" * code[0].count("\n"), markdown)  # without code, but on the same lines
        for number, line in enumerate(prose.splitlines(), 1):
            if "`" in line:
                yield f"{number} has a backtick without another one on its line"
            for target in _LINK.findall(line):
                if "://" not in target and not (folder / target.partition("#")[0]).exists():
                    yield f"{number} links to {target}, which does not exist"

    def _in_block(self, text: str, info: str) -> Iterator[str]:
        language, _, file = info.partition(" ")
        if file:
            yield from self._in_excerpt(text, file)
        elif language in _SHELL:
            for line in text.replace("\\\n", " ").splitlines():
                yield from self._commands.findings(line)
        elif language == "python":
            yield from self._in_python(text)
        elif language:
            yield f"has a block of {language} that names no file: say which one it is an excerpt of"
        else:
            for line in text.splitlines():
                yield from self._in_drawing(line)

    def _in_drawing(self, line: str) -> Iterator[str]:
        """A line of a block without a language: a command, or a picture in which paths are held to exist."""
        if self._commands.is_command(line):
            yield from self._commands.findings(line)
            return
        for word in re.findall(r"[^\s─│┌└┐┘├┤,;:()>]+", line):
            if _PATH.fullmatch(_PLACEHOLDER.sub("*", word)):
                yield from self._in_path(word)

    def _in_text(self, text: str) -> Iterator[str]:
        if self._commands.is_command(text):
            yield from self._commands.findings(text)
        elif _OPTION.fullmatch(text):
            if not self._commands.has_option(text.partition(" ")[0]):
                yield f"names the option {text}, which no command has"
        elif _ASSIGNMENT.fullmatch(text):
            if not re.search(rf"\b{re.escape(text)}\b", self._known.code):
                yield f"says {text}, and the code does not"
        elif "://" in text or text in self._known.literals:
            return
        elif _PATH.fullmatch(_PLACEHOLDER.sub("*", text)):
            yield from self._in_path(text)
        else:
            yield from self._in_names(text)

    def _in_names(self, text: str) -> Iterator[str]:
        for plain in _expand(_PLACEHOLDER.sub("", _STRING.sub("", text))):
            for word in _WORD.findall(plain):
                # Words of a sentence or of a formula need not be names; what looks like code, or stands alone, is one.
                is_alone = word == plain.strip(" ()")
                if (is_alone or _CODE_LIKE.search(word)) and not self._is_known(word.lstrip(".")):
                    yield f"names {word}, which the code does not have"

    def _is_known(self, word: str) -> bool:
        parts = word.split(".")
        if parts[0] in self._known.members and len(parts) > 1:
            return parts[1] in self._known.members[parts[0]]
        if parts[0] in PACKAGES and len(parts) > 1:
            return _can_import(parts)
        if word in OUTSIDE or word in self._known.words or self._commands.has_option(word):
            return True
        return all(part in self._known.words for part in re.split(r"[.-]", word))

    def _in_path(self, text: str) -> Iterator[str]:
        path = _PLACEHOLDER.sub("*", text).strip("/").removeprefix("./")
        parts = set(path.split("/"))
        if parts & GENERATED or path in self._known.literals or f"/{path}" in self._known.literals:
            return
        if not any(fnmatch(f"/{known}", f"*/{path}") for known in self._known.paths):
            yield f"names {text}, and no path in the repository ends so"

    def _in_excerpt(self, text: str, file: str) -> Iterator[str]:
        path = self._repository / file
        source = f"\n{path.read_text(encoding='utf-8')}\n" if path.is_file() else ""
        if not source:
            yield f"has an excerpt of {file}, which does not exist"
        for part in re.split(r"^\s*\.\.\.$", text, flags=re.MULTILINE):
            if source and part.strip("\n") and f"\n{part.strip(chr(10))}\n" not in source:
                yield f"has an excerpt of {file} that is not as the file has it: {part.strip().splitlines()[0]}"

    def _in_python(self, text: str) -> Iterator[str]:
        compile(text, "<document>", "exec")
        for module, names in re.findall(r"^from (mogemma[\w.]*) import (.+)$", text, re.MULTILINE):
            for name in re.split(r",\s*", names):
                if not _can_import([*module.split("."), name]):
                    yield f"imports {name} from {module}, which does not have it"


def _expand(text: str) -> list[str]:
    """`a.{b,c}` is a.b and a.c."""
    group = re.search(r"\{([\w,]+)\}", text)
    if group is None:
        return [text]
    return [one for name in group[1].split(",") for one in _expand(text[: group.start()] + name + text[group.end() :])]


def _can_import(parts: Sequence[str]) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    for n in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for part in parts[n:]:
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


def documents(repository: Path) -> Iterable[Path]:
    """All that is written for people: at the top, in docs/ and beside what it is about."""
    return sorted(
        path
        for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "mojo/README.md", "packages/*/README.md")
        for path in repository.glob(pattern)
    )


def main(arguments: Sequence[str]) -> int:
    repository = Path(arguments[0] if arguments else ".").resolve()
    if not (repository / "mojo" / "include" / "mogemma.h").is_file():
        print(f"{repository} is not mogemma's repository: it has no mojo/include/mogemma.h", file=sys.stderr)
        return 2
    checker, found = Checker(repository), []
    for document in documents(repository):
        where = document.relative_to(repository).as_posix()
        wrong = checker.findings(document.read_text(encoding="utf-8"), document.parent)
        found += [f"{where}:{finding}" for finding in wrong]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
