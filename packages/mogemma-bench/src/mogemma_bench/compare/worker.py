"""Runs an engine in the Python that has it: requests come in on standard input, answers go out, one line of JSON each.

    python worker.py ENGINE_FILE

Needs nothing but the standard library and what ENGINE_FILE imports. `open` makes its `Engine`; any other request names a
method of that, and has its arguments. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any


def answer(engines: dict[str, Any], request: dict[str, Any]) -> Any:
    """Do what a request asks for."""
    do = request.pop("do")
    if do == "open":
        engine = engines["engine"] = engines["Engine"](**request)
        return {"version": engine.version, "arithmetic": engine.arithmetic}
    if do == "memory":
        return peak_rss_bytes()
    return getattr(engines["engine"], do)(**request)


def peak_rss_bytes() -> int:
    """VmHWM begins with the program; ru_maxrss, for systems without /proc, may come from the one that started it."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:  # noqa: PTH123  starts faster without pathlib
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except OSError:
        import resource  # noqa: PLC0415  not on every system

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main(file: str) -> None:
    del sys.path[0]  # the folder of this file, whose names might hide a library's
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engines = runpy.run_path(file)
    for line in sys.stdin:
        try:
            reply = {"answer": answer(engines, json.loads(line))}
        except Exception as error:  # noqa: BLE001  whatever it is, the other side makes a sentence of it
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
