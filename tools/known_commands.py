"""Command lines in documents: targets, programs, scripts and options that do not exist are findings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

import mogemma.cli
import mogemma_bench.cli
import mogemma_release.cli

OTHERS = frozenset({"bump-my-version", "cd", "gh", "git", "mojo", "pip", "pytest", "tar", "towncrier"})
"""Programs of others, of whose arguments only paths are looked at."""

UV_OPTIONS = frozenset({"--package", "--extra", "--python"})
"""Options of `uv run` that take a value."""

_PLACEHOLDER = re.compile(r"<[\w /]+>")
_QUOTED = re.compile(r'"[^"]*"')
_VARIABLE = re.compile(r"[A-Z_]+=")
_OURS = ("docs/", "mojo/", "packages/", "tools/")
_SHELL = frozenset({"for", "do", "done", "export"})


class Commands:
    """What can be typed in a clone of the repository."""

    def __init__(self, repository: Path) -> None:
        makefile = (repository / "Makefile").read_text(encoding="utf-8")
        projects = [file.read_text(encoding="utf-8") for file in repository.glob("packages/*/pyproject.toml")]
        self._repository = repository
        self._targets = frozenset(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
        self._packages = frozenset(
            name for text in projects for name in re.findall(r'^name = "(.+)"', text, re.MULTILINE)
        )
        self.options: Mapping[str, frozenset[str]] = dict(_options_by_command())

    def is_command(self, text: str) -> bool:
        """Whether a code span is one, and no name: it begins with a program, or with a variable that is set for one."""
        words = text.split()
        known = {"make", "uv", "python", *OTHERS, *self.options}
        return bool(words) and (words[0] in known or _VARIABLE.match(words[0]) is not None)

    def has_option(self, name: str) -> bool:
        return any(name in options for options in (UV_OPTIONS, *self.options.values()))

    def findings(self, line: str) -> Iterator[str]:
        """What is wrong with a line of shell."""
        before = ""
        plain = _QUOTED.sub(lambda quoted: re.sub(r"[&|;]", ",", quoted[0]), re.sub(r"(^|\s)#.*", "", line))
        for part in re.split(r"&&|\|\|?|;", plain):
            try:
                words = shlex.split(_PLACEHOLDER.sub("X", part).strip(" ()$"))
            except ValueError as error:
                yield f"has a command that no shell reads: {line} ({error})"
                return
            while words and (_VARIABLE.match(words[0]) or words[0] in _SHELL - {"for"}):
                words.pop(0)
            if not words or words[0] in _SHELL or f"{before} {words[0]}" in self.options:
                continue  # as in `mogemma generate | chat`, which names two commands
            before = words[0]
            yield from self._in_command([word.strip("()") for word in words])

    def _in_command(self, words: Sequence[str]) -> Iterator[str]:
        program, *rest = words
        if program == "make":
            yield from self._in_make(rest)
        elif program == "uv":
            yield from self._in_uv(rest)
        elif program == "python":
            yield from self._in_script(rest)
        elif program in self.options:
            yield from self._in_own(program, rest)
        elif program in OTHERS or program.startswith("build/"):
            for path in rest:
                if path.startswith(_OURS) and not (self._repository / path).exists():
                    yield f"gives `{program}` the path {path}, which does not exist"
        else:
            yield f"runs `{program}`, which nothing here is or needs"

    def _in_make(self, words: Sequence[str]) -> Iterator[str]:
        for target in words[2:] if words[:1] == ["-C"] else words:
            if "=" not in target and target not in self._targets:
                yield f"says `make {target}`, which the Makefile does not have"

    def _in_uv(self, words: Sequence[str]) -> Iterator[str]:
        """`uv run` with its own options, then a command."""
        rest = list(words)
        if not rest or rest.pop(0) != "run":
            return
        while rest and rest[0].startswith("-"):
            option = rest.pop(0)
            value = rest.pop(0) if option in UV_OPTIONS and rest else ""
            if option == "--package" and value not in self._packages:
                yield f"says --package {value}, which is none of {', '.join(sorted(self._packages))}"
        if rest:
            yield from self._in_command(rest)

    def _in_script(self, words: Sequence[str]) -> Iterator[str]:
        if not words or words[0].startswith("-"):
            return
        file, *rest = words
        if not (self._repository / file).is_file():
            yield f"runs {file}, which does not exist"
            return
        source = (self._repository / file).read_text(encoding="utf-8")
        options = self.options["bench"] if "mogemma_bench.cli" in source else frozenset[str]()
        for option in (word for word in rest if word.startswith("--")):
            if option not in options and option not in source:
                yield f"gives {file} the option {option}, which it does not have"

    def _in_own(self, program: str, words: Sequence[str]) -> Iterator[str]:
        has_commands = any(name.startswith(f"{program} ") for name in self.options)
        command = f"{program} {words[0]}" if has_commands and words and words[0][:1] not in "->" else program
        if command not in self.options:
            yield f"runs `{command}`, which does not exist"
            return
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            if option not in self.options[command]:
                yield f"gives `{command}` the option {option}, which it does not have"


def _options_by_command() -> Iterator[tuple[str, frozenset[str]]]:
    """Of "mogemma", "mogemma chat" and so on."""
    tops: Iterable[tuple[str, click.Command]] = [
        ("mogemma", mogemma.cli.main),
        ("bench", mogemma_bench.cli.main),
        ("release", mogemma_release.cli.main),
    ]
    for name, command in tops:
        yield name, _options(command)
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", _options(one)) for sub, one in command.commands.items())


def _options(command: click.Command) -> frozenset[str]:
    """Its options, and the environment variables that set them."""
    names = {"-h", "--help"}
    for parameter in command.params:
        names.update(parameter.opts, parameter.secondary_opts)
        variables = parameter.envvar or ()
        names.update([variables] if isinstance(variables, str) else variables)
    return frozenset(names)
