"""The table in docs/performance.md, from the comparisons beside it.

    python tools/performance_table.py [--check] [REPOSITORY]

Reads every `docs/comparison-*.json`, which `bench compare --json` has written, and puts the table between the two marks in
docs/performance.md. With --check nothing is written; the exit status is 1 if the page says something else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

START, END = "<!-- table: made by tools/performance_table.py -->", "<!-- end of table -->"
HEAD = ("work", "engine", "median", "least to most", "of the limit", "mogemma is", "peak memory")


def rows(result: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """The lines of one comparison."""
    for work in result["works"]:
        what = f"{work['workload']}, {work['tokens']} tokens, {work['threads']} thread{'s' * (work['threads'] > 1)}"
        for name, measured in work["engines"].items():
            ratio = work["ratios"].get(name)
            yield (
                what,
                f"**{name}**" if ratio is None else name,
                *_speed(work["workload"], measured),
                "" if measured["share"] is None else f"{measured['share']:.0%}",
                "" if ratio is None else f"{ratio['median']:.2f} x ({ratio['min']:.2f} to {ratio['max']:.2f})",
                f"{measured['peak_rss_bytes'] / 1e6:,.0f} MB",
            )
            what = ""


def _speed(workload: str, measured: Mapping[str, Any]) -> tuple[str, str]:
    """Tokens a second; for what a person waits for, milliseconds."""
    if workload in {"cold-start", "query"}:
        times = {key: 1000 * measured["seconds"][key] for key in ("median", "min", "max")}
        return f"{times['median']:,.1f} ms", f"{times['min']:,.1f} to {times['max']:,.1f}"
    speed = measured["tokens_per_second"]
    return f"{speed['median']:,.0f} tokens/s", f"{speed['min']:,.0f} to {speed['max']:,.0f}"


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """One table for each comparison, under a line that says what was compared, and where."""
    return "\n\n".join(_described(result) for result in results)


def _described(result: Mapping[str, Any]) -> str:
    here, model = result["environment"], result["model"]
    lines = [HEAD, tuple("---" for _ in HEAD), *rows(result)]
    return "\n".join(
        [
            (
                f"{model['name']}, {_arithmetic(result)}, {result['rounds']} rounds, {here['processor']}, {here['cores']} cores, "
                f"{here['cpu_level']}, {here['python']}, {here['measured_at'][:10]}; "
                f"{', '.join(f'{name} {version}' for name, version in result['versions'].items())}:"
            ),
            "",
            *(f"| {' | '.join(line)} |" for line in lines),
        ]
    )


def _arithmetic(result: Mapping[str, Any]) -> str:
    """How mogemma multiplied."""
    arithmetic: str = result["works"][0]["engines"]["mogemma"]["arithmetic"]
    return f"mogemma in {arithmetic}"


def page_with(page: str, made: str, *, start: str = START, name: str = "performance.md") -> str:
    """The page with the table between its marks.

    Raises:
        ValueError: It has no such marks.
    """
    before, found, rest = page.partition(start)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"docs/{name} lacks {start} or {END}, between which the table stands.")
    return f"{before}{start}\n\n{made}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    checks = "--check" in arguments
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    docs = (folders[0] if folders else Path(__file__).resolve().parent.parent) / "docs"
    files = sorted(docs.glob("comparison-*.json"))
    page = docs / "performance.md"
    text = page.read_text(encoding="utf-8")
    wanted = page_with(text, table(json.loads(file.read_text(encoding="utf-8")) for file in files))
    if checks and wanted != text:
        print("docs/performance.md does not say what docs/comparison-*.json do: run tools/performance_table.py")
        return 1
    if not checks:
        page.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
