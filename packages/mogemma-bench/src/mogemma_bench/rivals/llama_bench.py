"""llama-bench: the benchmark program of llama.cpp and of its fork ik_llama.cpp, built natively."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from ..compare.child import deadline, kill, start
from ..compare.rival import GENERATION, Job, Sample, Setting, Workload
from ..errors import BenchError
from ..measure import now


class LlamaBench:
    """Starts anew for each job, loads the model, warms up by itself and then times one repetition.

    Its prompt is as many tokens as asked for, but random ones: it has no text. A cold start is the whole process with a
    prompt and without warming up; the tokenizer and the sampling that other engines do besides are not in it.
    """

    arithmetic: str | None = None

    def __init__(self, name: str, program: str, arguments: Sequence[str], setting: Setting) -> None:
        self.name = name
        self.version = ""
        self.workloads: frozenset[Workload] = frozenset(GENERATION if setting.mode == "generation" else ())
        self._threads, self._timeout_s = setting.threads, setting.timeout_s
        self._program = program
        self._common = ["-m", str(setting.model), "-t", str(setting.threads), "-r", "1", "-o", "json", *arguments]
        self._peak = 0
        manual, _ = self._start(["--help"])
        self._cold = ["--no-warmup"] if "--no-warmup" in manual else ["-w", "0"] if "--warmup" in manual else None
        if self._cold is None:
            self.workloads -= {"cold-start"}

    def run(self, job: Job) -> Sample:
        is_decode, is_cold = job.workload == "decode", job.workload == "cold-start"
        n_prompt, n_gen = (0, job.tokens) if is_decode else (job.tokens, 0)
        lengths = ["-p", str(n_prompt), "-n", str(n_gen)]
        began = now()
        output, peak = self._start([*self._common, *lengths, *((self._cold or ()) if is_cold else ())])
        seconds = now() - began
        result = self._parse(output)
        if (result["n_prompt"], result["n_gen"], result["n_threads"]) != (n_prompt, n_gen, self._threads):
            raise BenchError(
                f"{self.name} was asked for {n_prompt} + {n_gen} tokens with {self._threads} threads and measured "
                f"{result['n_prompt']} + {result['n_gen']} with {result['n_threads']}."
            )
        self.version = f"{result.get('build_commit', '?')} ({result.get('build_number', '?')})"
        if is_cold:
            return Sample(job.tokens, seconds)
        self._peak = max(self._peak, peak)
        return Sample(n_prompt + n_gen, result["samples_ns"][0] / 1e9)

    def _parse(self, output: str) -> dict[str, Any]:
        try:
            (result,) = json.loads(output[output.index("[") :])
            if not {"n_prompt", "n_gen", "n_threads"} <= result.keys() or not result["samples_ns"][0] > 0:
                raise ValueError("fields are missing")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise BenchError(
                f"{self.name} ({self._program}) prints no result that llama-bench would ({error}): "
                f"{' '.join(output.split()):.200}"
            ) from error
        found: dict[str, Any] = result
        return found

    def _start(self, arguments: Sequence[str]) -> tuple[str, int]:
        """What the program prints, and its peak of resident memory."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            try:
                process = start([self._program, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
            except OSError as error:
                raise BenchError(f"{self.name} cannot be started: {self._program}: {error.strerror}.") from error
            try:
                with deadline(process, self._timeout_s) as passed:
                    _, status, usage = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
            except BaseException:  # an interrupt: it must not go on alone
                kill(process)
                process.wait()
                raise
            if passed.is_set():
                raise BenchError(
                    f"{self.name} ({self._program}) has not ended in {self._timeout_s:,.0f} s, and was ended: it was "
                    f"called with {' '.join(arguments)}. If it needs longer, give it a greater --timeout; if it hangs, "
                    "leave it out."
                )
            out.seek(0)
            errors.seek(0)
            if process.returncode:
                words = errors.read().decode(errors="replace").strip().splitlines() or ["it does not say why"]
                raise BenchError(f"{self.name} ({self._program}) failed with status {process.returncode}: {words[-1]}")
            return out.read().decode(errors="replace"), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def peak_rss_bytes(self) -> int:
        return self._peak

    def close(self) -> None:
        """Nothing is left running between jobs."""
