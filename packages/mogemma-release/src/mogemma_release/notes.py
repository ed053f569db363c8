"""The notes of a release: what changed, and the evidence that it is good."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from . import changelog
from .errors import ReleaseError
from .evidence import Bundle
from .measurements import Baseline
from .plots import baseline_plot
from .repository import Repository
from .runbook import BASELINES, MATRIX_CHECKS
from .versions import tag_message, tag_of

NOTES = "notes.md"
TITLE = "# Evidence for mogemma"
SECTIONS = ("Quality", "Documents", "Performance", "Artifacts")

_COUNTS = re.compile(r"^.*?(\d+ passed.*?)(?: in [\d.]+s.*)?$")


def release_notes(repository: Repository) -> str:
    """What changed in the repository's version, and the evidence, which its tag holds if there is one.

    What changed is the changelog's section, or what the fragments would make of it.

    Raises:
        ReleaseError: Neither is there.
    """
    version = repository.version
    changed = changelog.section(repository, version)
    if changed is None and changelog.fragments(repository):
        changed = changelog.draft(repository, version)
    if not changed:
        raise ReleaseError(
            f"Nothing says what changed in {version}: {changelog.CHANGELOG} has no section for it, and "
            f"{changelog.FRAGMENTS}/ no fragment."
        )
    tag = tag_of(version)
    message = tag_message(repository, tag) if tag in repository.tags else ""
    _, _, evidence = message.partition("\n\n")
    return f"# mogemma {version}\n\n{changed}\n" + (f"\n{evidence}" if TITLE in evidence else "")


def without_bundle(page: str) -> str:
    """The evidence's page for where the bundle is not beside it: names in place of links to its files, and no plots."""
    text = re.sub(r"^!\[[^\]]*\]\(plots/[^)]*\)\n+", "", page, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]*)\]\((?:logs|files)/[^)]*\)", r"\1", text)


def write_evidence_page(bundle: Bundle) -> None:
    """Put notes.md and the plots of the baselines into a bundle whose steps have passed."""
    baselines = [Baseline.read(bundle.folder / "files" / Path(name).name) for name in BASELINES.values()]
    for baseline in baselines:
        bundle.add(f"plots/{baseline.mode}.svg", baseline_plot(baseline))
    bundle.add(NOTES, "\n".join(_page(bundle, baselines)) + "\n")


def _page(bundle: Bundle, baselines: list[Baseline]) -> Iterator[str]:
    about = bundle.about
    yield f"{TITLE} {about['version']}"
    yield ""
    tree = f"tree changed in {', '.join(about['changes'])}" if about["changes"] else "tree clean"
    yield f"Commit {about['commit']}, {tree}, begun {about['begun']}."
    yield ""
    machine = about["machine"]
    yield f"{machine['platform']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, {machine['python']}."
    yield "Tools: " + ", ".join(f"{name} {version}" for name, version in about["tools"].items()) + "."
    yield from _quality(bundle)
    yield from _documents(bundle)
    yield from _performance(baselines)
    yield from _artifacts(bundle)


def _quality(bundle: Bundle) -> Iterator[str]:
    yield from (
        "",
        "## Quality",
        "",
        "| step | command | started | seconds | status | log |",
        "|---|---|---|---|---|---|",
    )
    for entry in bundle.entries:
        command = entry.command.replace("|", "\\|")
        yield (
            f"| {entry.step} | `{command}` | {entry.started} | {entry.seconds:.1f} | {entry.exit_status} | "
            f"[{Path(entry.log).name}]({entry.log}) |"
        )
    yield from ("", "Tests that `make check-release` ran:", "")
    if tests := bundle.entry("check-release"):
        yield from (f"- {counts}" for counts in test_counts((bundle.folder / tests.log).read_text("utf-8", "replace")))
    yield from ("", "Matrix checks, and the step that has them: ")
    yield ", ".join(f"`{check.command}` ({check.step})" for check in MATRIX_CHECKS) + "."


def test_counts(log: str) -> list[str]:
    """What the test runners say at their ends, in order: "106 passed, 2 skipped"."""
    return [match[1].strip(" =") for line in log.splitlines() if (match := _COUNTS.match(line))]


def _documents(bundle: Bundle) -> Iterator[str]:
    yield from ("", "## Documents", "")
    if entry := bundle.entry("docs"):
        yield from (f"- [{Path(name).name}]({name}), SHA-256 {digest}" for name, digest in entry.files.items())


def _performance(baselines: list[Baseline]) -> Iterator[str]:
    yield from ("", "## Performance", "", "| figure | median | least | most | unit |", "|---|---|---|---|---|")
    for baseline in baselines:
        for figure in baseline.figures:
            samples = baseline.samples(figure)
            shown = (f"{x:,.4g}" for x in (baseline.median(figure), min(samples), max(samples)))
            yield f"| {baseline.mode}: {figure.name} | {' | '.join(shown)} | {figure.unit} |"
    for baseline in baselines:
        yield from ("", f"![{baseline.mode}, every round](plots/{baseline.mode}.svg)")


def _artifacts(bundle: Bundle) -> Iterator[str]:
    yield from ("", "## Artifacts", "")
    sums = bundle.folder / "files" / "SHA256SUMS"
    yield from ("```", *(sums.read_text(encoding="utf-8").splitlines() if sums.exists() else ()), "```")
