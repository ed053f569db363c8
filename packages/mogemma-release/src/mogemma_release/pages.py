"""docs/release-runbook.md and docs/performance-baselines.md, written from the runbook and the baseline files."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from .files import sha256, write_whole
from .matrix import JOBS, PACKAGE, PLATFORMS, PYTHONS, SKIPPED, WORKFLOW
from .measurements import (
    DEVIATIONS,
    FIGURES,
    MIN_THRESHOLD,
    NOISE,
    SAME_MACHINE,
    SAME_WORK,
    Baseline,
    Noise,
)
from .repository import Repository
from .runbook import (
    BASELINES,
    BASELINES_PAGE,
    DRY_RUN,
    EVIDENCE,
    GO,
    MATRIX_CHECKS,
    PUBLISHING,
    ROLES,
    ROLLBACK,
    RUNBOOK_PAGE,
    SETUP,
    Needs,
    Rule,
    Step,
)

_GENERATED = "<!-- Written by `uv run --package mogemma-release release docs`; `make check` fails when it differs. -->"


def stale_pages(repository: Repository) -> dict[str, str]:
    """The pages that are not what they would be if written now, each with the difference."""
    found = {}
    for name, text in _pages(repository):
        file = repository.root / name
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        if there != text:
            lines = difflib.unified_diff(
                there.splitlines(), text.splitlines(), name, "as it should be", lineterm="", n=0
            )
            found[name] = "\n".join(lines)
    return found


def write_pages(repository: Repository) -> list[str]:
    """Bring the pages up to date; which of them changed."""
    stale = stale_pages(repository)
    for name, text in _pages(repository):
        if name in stale:
            write_whole(repository.root / name, text)
    return list(stale)


def _pages(repository: Repository) -> Iterator[tuple[str, str]]:
    makers: Sequence[tuple[str, Callable[[Path], Iterator[str]]]] = (
        (RUNBOOK_PAGE, lambda _: runbook_page()),
        (BASELINES_PAGE, baselines_page),
    )
    for name, make in makers:
        yield name, "\n".join(make(repository.root)) + "\n"


def runbook_page() -> Iterator[str]:
    yield "# The release runbook"
    yield ""
    yield _GENERATED
    yield ""
    yield f"How a version of {PACKAGE} is built, proved, published and, if need be, replaced. Every step is data in"
    yield "`mogemma_release.runbook`, which `release` runs and this page is written from. `release plan` shows where a release"
    yield "stands; each command takes `--json`, for programs."
    yield from _scope()
    yield from _roles()
    yield from _setup()
    yield from _evidence()
    yield from _matrix_checks()
    yield from _publishing()
    yield from _rollback()
    yield from _dry_run()
    yield from _go()


def _scope() -> Iterator[str]:
    yield from ("", "## Scope and build matrix", "")
    yield f"`{WORKFLOW}` builds the sdist and one `py3-none` wheel for each platform; each is tested on Python {_list(PYTHONS)}."
    yield ""
    yield from _table(
        ("platform", "wheel", "built on"),
        ((f"{p.system} {p.arch}", f"`{p.wheel_tag}`", p.runner) for p in PLATFORMS),
    )
    yield ""
    yield "Skipped, with the reason:"
    yield ""
    yield from (f"- {name}: {reason}" for name, reason in SKIPPED.items())
    yield ""
    yield "Build tooling is uv and Mojo. The Linux aarch64 wheel is built and tried through QEMU ([docker/setup-qemu-action](https://github.com/docker/setup-qemu-action))."
    yield "How artifacts are built, looked into and reproduced is in [building.md](building.md)."


def _roles() -> Iterator[str]:
    yield from ("", "## Who may say go", "")
    yield from _rules(ROLES)


def _setup() -> Iterator[str]:
    yield from ("", "## Set up once", "")
    yield "By an owner of the repository, before the first tag. Nothing in the repository can see whether it was done, so a second"
    yield "person looks."
    yield ""
    yield from _rules(SETUP)


def _evidence() -> Iterator[str]:
    yield from ("", "## Pre-release evidence", "")
    yield "Run locally, from a clean branch, all of it by one command that can be interrupted and resumed:"
    yield from ("", "```sh", "uv run --package mogemma-release release evidence", "```", "")
    yield "Each step's command, start, end, duration, exit status and output goes into `evidence/X.Y.Z`, with the commit, the state"
    yield "of the tree, the machine, the versions of the tools, and the digest of every file. A step that takes longer than its"
    yield "limit is ended. The first step that fails ends the run; the next run goes on there."
    yield from _steps(EVIDENCE)


def _matrix_checks() -> Iterator[str]:
    yield from ("", "## Matrix checks", "")
    yield "What every release passes, and the step of the evidence whose log shows it:"
    yield ""
    yield from _table(("check", "step"), ((f"`{check.command}`", check.step) for check in MATRIX_CHECKS))


def _publishing() -> Iterator[str]:
    source, wheels, publish = JOBS
    yield from ("", "## GitHub release workflow", "")
    yield f"`{WORKFLOW}` starts with the tag and publishes by trusted publishing: no password or token is stored anywhere."
    yield ""
    yield f"- `{source}` builds the sdist, and holds the tag to the version."
    yield f"- `{wheels}` builds the wheels on {_list(sorted({p.runner for p in PLATFORMS}, reverse=True))}, and imports each on every Python."
    yield f"- `{publish}` waits for both: it publishes wheels and sdist only after the smoke imports, with attestations (PEP 740)."
    yield from _steps(PUBLISHING)


def _rollback() -> Iterator[str]:
    yield from ("", "## Rollback", "")
    yield from _rules(ROLLBACK)


def _dry_run() -> Iterator[str]:
    yield from ("", "## Dry run", "")
    yield "A development version on a scratch branch goes through everything but the upload."
    yield from _steps(DRY_RUN)


def _go() -> Iterator[str]:
    yield from ("", "## Evidence checklist", "")
    yield f"- [ ] [{Path(BASELINES_PAGE).name}]({Path(BASELINES_PAGE).name}) has the commands and thresholds of the captured files:"
    yield "      it is written from them, and names their digests."
    for name in BASELINES.values():
        yield f"- [ ] `{name}` is in the evidence, and the same file is in the release commit."
    yield "- [ ] Every step above has an entry in the bundle, and every log has its digest in it."
    yield from ("", "## Go or no-go", "")
    yield "`release go` proves each item, or says what is missing; one that is not proved is a no-go."
    yield ""
    yield from (f"- [ ] {item.name}: {item.claim}." for item in GO)


def _rules(rules: Iterable[Rule]) -> Iterator[str]:
    yield from (f"- {rule.what} {rule.why}" for rule in rules)


def _steps(steps: Iterable[Step]) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        yield ""
        yield f"### {number}. {step.name}"
        yield ""
        yield f"{step.what}. {step.why}"
        yield ""
        yield from ("```sh", step.typed.replace(" && ", " && \\\n    "), "```", "")
        yield f"- Proof: {step.proof}."
        yield f"- Undo: {step.undo.rstrip('.')}."
        needs = "" if step.needs is Needs.NOTHING else f"; needs {step.needs.value}"
        yield f"- Limit: {step.limit_seconds / 60:.0f} min{needs}."


def baselines_page(root: Path) -> Iterator[str]:
    baselines = [Baseline.read(root / name) for name in BASELINES.values()]
    noise = Noise.read(root / NOISE)
    yield "# Performance baselines"
    yield ""
    yield _GENERATED
    yield ""
    yield "Speed is part of what is released: each release captures these figures, and the next one is compared with them."
    yield from _environment(baselines)
    yield from _commands(baselines, root)
    yield from _thresholds(baselines, noise)
    yield from _noise_model(noise)


def _environment(baselines: Sequence[Baseline]) -> Iterator[str]:
    yield from ("", "## Environment contract", "")
    yield "Two baselines are compared only if these are the same; `release baselines` refuses otherwise, and says what differs."
    yield "Of the platform it is the system that counts, of Python its 3.x, of the memory whole GiB: an update makes no other machine."
    yield "After a change of machine the older release's are captured anew on the new one, and `--against` names their folder:"
    yield ""
    names = (*(f"environment.{name}" for name in SAME_MACHINE), *SAME_WORK)
    yield from _table(
        ("field", *(f"{baseline.mode} baseline" for baseline in baselines)),
        ((f"`{name}`", *(_cell(baseline.get(name)) for baseline in baselines)) for name in names),
    )
    yield ""
    yield "Nothing else runs meanwhile. The load average before each run, and the commit it was made of:"
    yield ""
    yield from _table(
        ("", *(baseline.mode for baseline in baselines)),
        (
            (name, *(_cell(baseline.get(f"environment.{name}")) for baseline in baselines))
            for name in ("load_average", "commit", "measured_at")
        ),
    )


def _commands(baselines: Sequence[Baseline], root: Path) -> Iterator[str]:
    yield from ("", "## Commands", "")
    captures = {step.output: step.typed for step in EVIDENCE if step.output}
    names = [BASELINES[baseline.mode] for baseline in baselines]
    yield from ("```sh", *(captures[name] for name in names), "```", "")
    yield from _table(("file", "SHA-256"), ((f"`{name}`", sha256(root / name)) for name in [*names, NOISE]))


def _thresholds(baselines: Sequence[Baseline], noise: Noise) -> Iterator[str]:
    yield from ("", "## Figures and thresholds", "")
    yield "A release is a regression where a figure is worse than in the baseline by more than the threshold, plainly and as a share"
    yield "of what the machine could do at most in the same run. What no such limit bounds counts plainly."
    yield ""
    rows = []
    for baseline in baselines:
        for figure in baseline.figures:
            samples = baseline.samples(figure)
            threshold = noise.threshold(figure)
            least = baseline.median(figure) * (1 - threshold if figure.more_is_better else 1 / (1 - threshold))
            spread = f"{_number(min(samples))} to {_number(max(samples))}" if len(samples) > 1 else "one sample"
            rows.append(
                (
                    f"{baseline.mode}: {figure.name}",
                    f"{_number(baseline.median(figure))} {figure.unit}",
                    spread,
                    f"{100 * threshold:.0f} %",
                    f"{'below' if figure.more_is_better else 'above'} {_number(least)}",
                )
            )
    yield from _table(("figure", "median", "rounds, from least to most", "threshold", "worse is"), rows)


def _noise_model(noise: Noise) -> Iterator[str]:
    yield from ("", "## How the thresholds were chosen", "")
    yield "A threshold that a noisy machine trips by itself is worthless, so each comes from how far equal runs are apart:"
    n_runs = max(len(values) for values in noise.runs.values())
    yield f"`{NOISE}` has {n_runs} runs of one commit with the commands above, one after another. The threshold is {DEVIATIONS:g} times the standard"
    yield "deviation of the ratio of two such runs (from the median absolute deviation of their logarithms, times 1.4826 and the"
    yield f"square root of 2), for the figure or for its share, whichever is wider, and at least {100 * MIN_THRESHOLD:.0f} %. If the spread were normal, one figure in"
    yield "about 700 would pass its threshold by chance; tails of shared machines are heavier, which is why the share must be worse"
    yield "too. What is smaller than a threshold is not seen by this check: for that, compare versions turn about, as"
    yield "[measuring.md](measuring.md) tells."
    yield ""
    rows = []
    for figure in FIGURES:
        for of_share in (False, True) if figure.limit else (False,):
            deviation = noise.deviation(figure, of_share=of_share)
            rows.append((f"{figure.mode}: {figure.name}", "share" if of_share else "plain", f"{100 * deviation:.1f} %"))
    yield from _table(("figure", "", "standard deviation of a ratio of two equal runs"), rows)
    yield ""
    yield f"Measured with {noise.environment.get('threads')} threads on {noise.environment.get('processor')}, load average before: {noise.environment.get('load_average')}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _cell(value: object) -> str:
    return "none" if value is None else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _list(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
