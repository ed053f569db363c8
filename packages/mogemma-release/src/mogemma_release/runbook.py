"""The runbook of a release, as data: `release` runs it, docs/release-runbook.md is written from it.

Steps are what is done, in order; items are what has to be true before anyone says go. Whoever adds a step or an item adds
an entry here, and an item's proof in decision.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .matrix import CI_JOBS, CI_WORKFLOW, DRY_RUN_ENVIRONMENT, ENVIRONMENT, JOBS, PACKAGE, TAGS, WORKFLOW

GENERATION_BASELINE = "docs/baseline-generation.json"
EMBEDDING_BASELINE = "docs/baseline-embedding.json"
BASELINES: Mapping[str, str] = {"generation": GENERATION_BASELINE, "embedding": EMBEDDING_BASELINE}
"""What `tools/benchmark.py --mode` each holds."""

RUNBOOK_PAGE = "docs/release-runbook.md"
BASELINES_PAGE = "docs/performance-baselines.md"

RECORDS = (GENERATION_BASELINE, EMBEDDING_BASELINE, BASELINES_PAGE)
"""The changes that collecting evidence makes on purpose. They are committed after it, so evidence holds for a commit that
differs from its own in these files alone."""

MINUTE = 60.0


class Needs(Enum):
    """What a step needs besides the clone."""

    NOTHING = "nothing"
    REGISTRY = "the package registry"
    GITHUB = "GitHub"


@dataclass(frozen=True)
class Step:
    """One step of the runbook.

    Attributes:
        command: A line of shell, as a person would type it in the clone.
        proof: What shows that it went well.
        undo: How it is taken back.
        limit_seconds: A step that takes longer hangs, and is ended.
        output: File that the command's standard output becomes, when all of it is there.
        keeps: Files that go into the evidence besides the log.
    """

    name: str
    what: str
    why: str
    command: str
    proof: str
    undo: str
    limit_seconds: float = 10 * MINUTE
    needs: Needs = Needs.NOTHING
    output: str | None = None
    keeps: tuple[str, ...] = ()

    @property
    def typed(self) -> str:
        """The command with its redirection."""
        return f"{self.command} > {self.output}" if self.output else self.command


@dataclass(frozen=True)
class Rule:
    """What holds, whatever is being done."""

    what: str
    why: str


_BUILT = "build/evidence"
_BENCHMARK = "uv run python tools/benchmark.py"
NOTHING_TO_UNDO = "Nothing to undo."

EVIDENCE: tuple[Step, ...] = (
    Step(
        "install",
        "Set up the workspace from the lock file",
        "Every later step runs with the versions that uv.lock names, and with kernels of these sources.",
        "make install",
        "exit status 0",
        "`make clean`",
        limit_seconds=30 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "models",
        "Fetch the real models, unless they are there",
        "Tests, smoke runs and measurements take part with real weights.",
        "uv run python tools/fetch_models.py",
        "exit status 0; their checksums hold",
        NOTHING_TO_UNDO,
        limit_seconds=60 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "check-release",
        "Lint, types, documents and every test",
        "What is released is what was tested: the real models take part, and none of their tests is skipped.",
        "MOGEMMA_REQUIRE_REAL_MODELS=1 make check-release",
        "exit status 0; the log ends with the counts of the tests",
        NOTHING_TO_UNDO,
        limit_seconds=60 * MINUTE,
    ),
    Step(
        "sdist",
        "Build the sdist",
        "Who cannot use a wheel builds from it.",
        f"uv build --sdist --package mogemma --clear --out-dir {_BUILT}",
        f"exit status 0; the file is in {_BUILT}",
        "`make clean`",
        needs=Needs.REGISTRY,
    ),
    Step(
        "wheel",
        "Build this machine's wheel",
        "A person who builds for one platform does it so.",
        f"uv build --wheel --package mogemma --out-dir {_BUILT}",
        f"exit status 0; the file is in {_BUILT}",
        "`make clean`",
        limit_seconds=30 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "wheel-import",
        "Install the built wheel into an environment of its own, and import it",
        "A wheel can lack a file that the sources have, so the clone's own environment would show nothing.",
        f"uv venv --quiet --clear {_BUILT}/environment && "
        f"uv pip install --quiet --python {_BUILT}/environment --force-reinstall {_BUILT}/*.whl && "
        f"{_BUILT}/environment/bin/python -I -c \"import mogemma; print('import ok')\"",
        "the log ends with `import ok`",
        "`make clean`",
        needs=Needs.REGISTRY,
    ),
    Step(
        "build",
        "Build the sdist and the wheel of every package",
        "The packages that are not published are built by whoever has the repository.",
        "make build",
        "exit status 0; the log lists an sdist and a wheel of each package in dist/, which `wheels` fills anew",
        "`make clean`",
        limit_seconds=30 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "wheels",
        "Build the sdist and the wheel of every platform",
        "These files, or files of the same bytes, are what is published.",
        "make wheels",
        "exit status 0; the sdist, four wheels and their SHA256SUMS are in dist/",
        "`make clean`",
        limit_seconds=60 * MINUTE,
        needs=Needs.REGISTRY,
        keeps=("dist/SHA256SUMS",),
    ),
    Step(
        "inspect",
        "Look into every artifact",
        "A wrong tag, a library of another platform or a missing licence is found here, not by whoever installs it.",
        "uv run release inspect dist",
        "every check passed",
        NOTHING_TO_UNDO,
    ),
    Step(
        "smoke",
        "Install every artifact in a new environment of each Python found; import it, and let it write a token",
        "An import alone does not load the kernels.",
        "MOGEMMA_REQUIRE_REAL_MODELS=1 uv run release smoke dist",
        "`import ok` and `token ok` of every artifact and Python that can run here; what cannot is listed with the reason",
        NOTHING_TO_UNDO,
        limit_seconds=60 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "reproduce",
        "Build everything twice, in different folders and times, and locales where another is installed, and compare the bytes",
        "Whoever distrusts a published file can build it and compare.",
        "uv run release reproduce",
        "each artifact has one digest",
        NOTHING_TO_UNDO,
        limit_seconds=120 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "benchmark",
        "Measure generation and embedding once",
        "The command that users are told to run must run.",
        "make benchmark",
        "exit status 0",
        NOTHING_TO_UNDO,
        limit_seconds=20 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "baseline-generation",
        "Capture the baseline of generation",
        "The next release is compared with it.",
        f"{_BENCHMARK} --mode generation --rounds 30 --max-new-tokens 64",
        "the file is one JSON document of this commit",
        f"`git checkout {GENERATION_BASELINE}`",
        limit_seconds=30 * MINUTE,
        output=GENERATION_BASELINE,
        keeps=(GENERATION_BASELINE,),
    ),
    Step(
        "baseline-embedding",
        "Capture the baseline of embedding",
        "The next release is compared with it.",
        f"{_BENCHMARK} --mode embedding --rounds 30",
        "the file is one JSON document of this commit",
        f"`git checkout {EMBEDDING_BASELINE}`",
        limit_seconds=60 * MINUTE,
        output=EMBEDDING_BASELINE,
        keeps=(EMBEDDING_BASELINE,),
    ),
    Step(
        "docs",
        "Write the pages that quote the baselines",
        "The page and the files must say the same.",
        "uv run release docs",
        f"`uv run release docs --check` passes; {BASELINES_PAGE} names the digests of both files",
        f"`git checkout {BASELINES_PAGE}`",
        keeps=(BASELINES_PAGE, RUNBOOK_PAGE),
    ),
    Step(
        "git-status",
        "See what collecting the evidence changed",
        "Only intended changes: " + ", ".join(RECORDS) + ".",
        "git status --short",
        "the log names no other file",
        NOTHING_TO_UNDO,
        limit_seconds=MINUTE,
    ),
)
"""Run locally, from a clean branch."""


@dataclass(frozen=True)
class MatrixCheck:
    """A check that every release passes, and the step of the evidence whose log has it."""

    command: str
    step: str


MATRIX_CHECKS: tuple[MatrixCheck, ...] = (
    MatrixCheck("pytest packages/mogemma", "check-release"),
    MatrixCheck("pytest packages/mogemma-bench", "check-release"),
    MatrixCheck("pytest packages/mogemma-release", "check-release"),
    MatrixCheck("ruff check", "check-release"),
    MatrixCheck("ruff format --check", "check-release"),
    MatrixCheck("mypy", "check-release"),
    MatrixCheck("pyright", "check-release"),
    MatrixCheck("make build", "build"),
    MatrixCheck("make wheels", "wheels"),
    MatrixCheck("make benchmark", "benchmark"),
    MatrixCheck(GENERATION_BASELINE, "baseline-generation"),
    MatrixCheck(EMBEDDING_BASELINE, "baseline-embedding"),
)

_SOURCE, _WHEELS, _PUBLISH = JOBS

ROLES: tuple[Rule, ...] = (
    Rule(
        "A maintainer makes a commit of main a release: collects the evidence, reads the page of `release go`, and pushes the "
        "tag when every item of it is a go.",
        "Whoever made the tag answers for the proofs that it names.",
    ),
    Rule(
        f"A required reviewer of the environment `{ENVIRONMENT}` says go: sees that {_SOURCE} and {_WHEELS} passed, and approves "
        f"{_PUBLISH} on GitHub, within a day, for which the built files are kept.",
        "Until then nothing is published; from then on nothing can be taken back.",
    ),
    Rule(
        "Anyone may say no-go, by naming the item that is not true. A reviewer rejects the job then; the tag stays, and the "
        "next version is the next try.",
        "One missing proof is enough.",
    ),
)
"""Who may say go."""

SETUP: tuple[Rule, ...] = (
    Rule(
        f"GitHub, the environment `{ENVIRONMENT}`: its required reviewers are those who may say go; where there are two or more, "
        f"nobody reviews their own tag. It takes the tags `{TAGS}` alone, and administrators do not pass it by.",
        f"{_PUBLISH} waits there for a person, and no branch gets there, whatever its copy of the workflow says.",
    ),
    Rule(
        f"GitHub, the environment `{DRY_RUN_ENVIRONMENT}`: no reviewers, no secrets, any branch or tag.",
        "A dry run goes to its end by itself, in a place that the package index does not know.",
    ),
    Rule(
        f"The package index, the project `{PACKAGE}`: one trusted publisher, with the owner and the name of the GitHub "
        f"repository, the workflow `{WORKFLOW.rpartition('/')[2]}` and the environment `{ENVIRONMENT}`; before the first "
        "release it is entered as a pending one. There is no other publisher and no token.",
        f"Files come from {_PUBLISH} or from nowhere, and there is no password to lose.",
    ),
    Rule(
        "GitHub, the branch `main`: no forced push and no deletion. Maintainers push to it; what others change comes by pull "
        f"request, when the jobs {', '.join(CI_JOBS[:-1])} of {CI_WORKFLOW.rpartition('/')[2]} have passed.",
        "Evidence, quality jobs and tag name a commit of main, which has to stay there.",
    ),
    Rule(
        f"GitHub, the tags `{TAGS}`: maintainers make them, and nobody moves or deletes one.",
        "A tag starts the workflow, and its name must not mean two things.",
    ),
)
"""What is set up once, outside the repository, where no check of it can look."""

PUBLISHING: tuple[Step, ...] = (
    Step(
        "bump",
        "Give all packages the release's version",
        "A development version is never published.",
        "uv run bump-my-version bump stage",
        "`uv run release plan` names the new version",
        "`git checkout .`",
    ),
    Step(
        "changelog",
        "Make the changelog of the fragments in changes/",
        "Each change wrote its line when it was made; nobody remembers them all at the end.",
        "uv run towncrier build --yes",
        "CHANGELOG.md has the version, and changes/ is empty",
        "`git checkout CHANGELOG.md changes`",
    ),
    Step(
        "release-commit",
        "Commit both as the release commit",
        "Evidence, tag and artifacts name one commit.",
        'git commit --all --message "release: X.Y.Z"',
        "`git status --short` prints nothing",
        "`git revert`, once it is pushed",
    ),
    Step(
        "evidence",
        "Collect the evidence, and commit what it recorded",
        "A release without evidence is a guess.",
        "uv run --package mogemma-release release evidence",
        "evidence/X.Y.Z/SHA256SUMS holds every log; what it recorded is in a commit of its own, which changes no artifact",
        "The folder stays; `release evidence --fresh` sets it aside",
        limit_seconds=300 * MINUTE,
    ),
    Step(
        "push",
        "Push the release commit and wait for its quality jobs",
        "They run on the platforms that are not here.",
        "git push origin main",
        "every job of ci.yml passed on the release commit",
        "`git revert`",
        needs=Needs.GITHUB,
    ),
    Step(
        "go",
        "Decide",
        "One page with a proof for each item; anything missing is a no-go.",
        "uv run --package mogemma-release release go",
        "exit status 0",
        NOTHING_TO_UNDO,
        needs=Needs.GITHUB,
    ),
    Step(
        "tag",
        "Tag the commit",
        "The annotated tag holds the evidence's page and names the bundle by its digest; it starts the publishing workflow.",
        "uv run --package mogemma-release release tag --push",
        "`git describe --exact-match` prints vX.Y.Z",
        "A tag that was not pushed: `git tag --delete vX.Y.Z`. A pushed tag stays",
        needs=Needs.GITHUB,
    ),
    Step(
        "publish",
        f"{WORKFLOW} builds and publishes: {_SOURCE} (the sdist), {_WHEELS} (each platform), {_PUBLISH}",
        "Files are built where nobody's machine has touched them, and published by trusted publishing, with attestations.",
        "gh run watch",
        f"smoke imports of all artifacts passed in {_WHEELS} before {_PUBLISH} began; the GitHub release has the artifacts, "
        "their checksums, the notes and both baselines",
        "Not possible: see Rollback",
        needs=Needs.GITHUB,
    ),
    Step(
        "attach",
        "Attach the bundle to the GitHub release",
        "The notes have its page; logs and plots are in it, and the tag has its digest.",
        "tar --create --gzip --file build/evidence-X.Y.Z.tar.gz --directory evidence X.Y.Z && "
        "gh release upload vX.Y.Z build/evidence-X.Y.Z.tar.gz",
        "the GitHub release lists evidence-X.Y.Z.tar.gz",
        NOTHING_TO_UNDO,
        needs=Needs.GITHUB,
    ),
    Step(
        "next",
        "Begin the next development version",
        "What is built from main from now on must not call itself the release.",
        "uv run bump-my-version bump patch",
        "`uv run release plan` names a .dev version",
        "`git checkout .`",
    ),
)
"""From a green main to a release."""

DRY_RUN: tuple[Step, ...] = (
    Step(
        "rehearse",
        "Build, look into and try everything here, then tag a scratch branch with the development version",
        "What fails here would fail there too, later and in public.",
        "uv run --package mogemma-release release dry-run",
        "branch dry-run/vX.Y.Z.devN and tag vX.Y.Z.devN exist here",
        "`git branch --delete --force` and `git tag --delete`, as long as nothing is pushed",
        limit_seconds=120 * MINUTE,
        needs=Needs.REGISTRY,
    ),
    Step(
        "run",
        f"Push both: {WORKFLOW} runs everything but the upload",
        "The workflow itself is tried, on GitHub's machines.",
        "uv run --package mogemma-release release dry-run --push",
        f"{_SOURCE} and {_WHEELS} passed; their artifacts, kept one day, and both baselines are attached to the run",
        "The scratch branch may go; the tag stays",
        needs=Needs.GITHUB,
    ),
    Step(
        "retry",
        "After a failure: mend, commit, and take the next development version",
        "A failed publish is never retried on the same commit: the same name must not mean two things.",
        "uv run bump-my-version bump round",
        "the next `release dry-run` has a new tag on a new commit",
        "`git checkout .`",
    ),
)


ROLLBACK: tuple[Rule, ...] = (
    Rule(
        "A regression blocks publishing, and is written down in changes/ before anything is tried again.",
        "Otherwise the second try hides the first.",
    ),
    Rule(
        "A wrong build that was published is never removed, neither the files nor the tag.",
        "Others have it in lock files; a name that meant something yesterday must not mean nothing, or something else, today.",
    ),
    Rule(
        "`release rollback X.Y.Z --reason TEXT` writes the deprecation into the affected release's notes, a fragment for the "
        "follow-up's, and prepares the version that follows.",
        "Who reads the notes of the bad release finds the way out of it.",
    ),
    Rule(
        "The follow-up release takes every step of this page.",
        "Haste made the first mistake.",
    ),
)


@dataclass(frozen=True)
class Item:
    """Something that has to be true before anyone says go; decision.py has its proof by the same name."""

    name: str
    claim: str


GO: tuple[Item, ...] = (
    Item("clean-tree", "The tree is the commit: nothing is changed or lies beside it"),
    Item("version", "The version is final, newer than every tag, and the same in all packages"),
    Item("main", "The commit is on GitHub's main, and every tag there is known here"),
    Item("evidence", "The evidence is complete, untouched, and of this commit"),
    Item("check-release", "`make check-release` passes"),
    Item("ci", "The quality jobs passed on the release commit"),
    Item("reproducible", "Wheels and sdist are built reproducibly"),
    Item("smoke", "Smoke imports from the built artifacts succeed"),
    Item("baselines", "Nothing became slower than the thresholds allow"),
    Item("docs", f"{RUNBOOK_PAGE} and {BASELINES_PAGE} say what the runbook and the evidence say"),
    Item("notes", "Evidence of quality, documents and performance is in the release notes"),
)
