"""An engine in a Python of its own: an environment that mogemma need not share, and memory that is its alone."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import BenchError
from ..measure import now
from .child import deadline, kill, start
from .rival import EMBEDDING, GENERATION, Job, Sample, Setting, Workload

_WORKER = Path(__file__).with_name("worker.py")
_METHODS: dict[Workload, str] = {"prefill": "prefill", "decode": "decode", "embed": "embed", "query": "embed"}


class Worker:
    """A process that runs an engine file, and the lines to and from it."""

    def __init__(self, name: str, python: str, engine: Path, timeout_s: float) -> None:
        self._name, self._timeout_s = name, timeout_s
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed in `close`
        try:
            self._process = start(
                [python, str(_WORKER), str(engine)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            raise BenchError(f"{name} cannot be started: {python}: {error.strerror}.") from error

    def ask(self, do: str, **arguments: Any) -> Any:
        """The answer of the engine.

        Raises:
            BenchError: It refused, or died, or hangs, or answers something that is no answer.
        """
        with deadline(self._process, self._timeout_s) as passed:
            line = self._exchange(json.dumps({"do": do, **arguments}) + "\n")
            if not line:
                self._process.wait()
        if passed.is_set():
            raise BenchError(
                f"{self._name} has not answered `{do}` in {self._timeout_s:,.0f} s, and was ended. If it needs longer, "
                "give it a greater --timeout; if it hangs, leave it out."
            )
        if not line:
            raise BenchError(f"{self._name} ended in the middle of `{do}`: {self._last_words()}")
        try:
            reply = json.loads(line)
            if "error" not in reply:
                return reply["answer"]
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{self._name} answers `{do}` with what is no answer: {line.strip():.200}") from error
        raise BenchError(f"{self._name} refuses `{do}`: {reply['error']}")

    def _exchange(self, request: str) -> str:
        """The line that comes back; an empty one when the process has closed its side."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(request)
            stdin.flush()
            return stdout.readline()
        except BrokenPipeError:
            return ""

    def _last_words(self) -> str:
        """Of a process that has ended."""
        status = self._process.returncode
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"{lines[-1]:.300}" if lines else f"status {status}, and no word of why."

    def close(self) -> None:
        """End the process; it has nothing to save."""
        kill(self._process)
        with suppress(BrokenPipeError), self._process:  # closes the pipes, and waits
            pass
        self._errors.close()


class PythonRival:
    """An engine file of `rivals/` in an interpreter that has what it imports."""

    def __init__(self, name: str, python: str, engine: Path, setting: Setting, **options: str) -> None:
        """`options` are what only this engine is opened with."""
        self.name = name
        self._start = (name, python, engine, setting.timeout_s)
        self._arguments = {
            "model": str(setting.model),
            "mode": setting.mode,
            "threads": setting.threads,
            "context": setting.context,
            **options,
        }
        self._worker = Worker(*self._start)
        try:
            opened = self._worker.ask("open", **self._arguments)
        except BaseException:
            self._worker.close()
            raise
        self.version: str = opened["version"]
        self.arithmetic: str | None = opened["arithmetic"]
        self.workloads: frozenset[Workload] = frozenset(GENERATION if setting.mode == "generation" else EMBEDDING)

    def ask(self, do: str, **arguments: Any) -> Any:
        """For what only mogemma is asked."""
        return self._worker.ask(do, **arguments)

    def run(self, job: Job) -> Sample:
        if job.workload == "cold-start":
            return self._cold_start(job)
        arguments: dict[str, Any] = {"tokens": job.tokens} if job.workload == "decode" else {"texts": job.texts}
        return Sample(**self._worker.ask(_METHODS[job.workload], **arguments))

    def _cold_start(self, job: Job) -> Sample:
        """The whole way: interpreter, imports, model, first token."""
        first = "prefill" if self._arguments["mode"] == "generation" else "embed"
        began = now()
        worker = Worker(*self._start)
        try:
            worker.ask("open", **self._arguments)
            tokens = worker.ask(first, texts=job.texts)["tokens"]
            return Sample(tokens, now() - began)
        finally:
            worker.close()

    def peak_rss_bytes(self) -> int:
        peak: int = self._worker.ask("memory")
        return peak

    def close(self) -> None:
        self._worker.close()
