"""Renders one template in a process of its own, with limits that the system holds it to: `sandbox.py` starts it.

A template comes from a stranger's file. Jinja2's immutable sandbox keeps it from Python's internals, but no sandbox inside
a process can end `{{ 9 ** 9 ** 9 }}`, or hold `{{ "a" * 10 ** 12 }}` to its memory: here the system ends the process.

Standard input is a JSON object; standard output a word on the first line (`text`, `refused` or `failed`), then a text.
It imports nothing of mogemma, for it runs without site-packages.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any


class Refused(Exception):  # noqa: N818  it is the template's word, not an error of it
    """What a template says with raise_exception()."""


def main() -> None:
    """Answer the request on standard input."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    sys.path += request["paths"]
    environment = _environment()
    _limit(request["cpu_seconds"], request["memory_bytes"], request["output_bytes"])
    try:
        answer = "text", _render(environment, request)
    except Refused as error:
        answer = "refused", str(error)
    except MemoryError:
        answer = "failed", f"needs more than {request['memory_bytes'] >> 20} MB of memory"
    except RecursionError:
        answer = "failed", "is nested, or calls itself, too deeply"
    except Exception as error:  # noqa: BLE001  whatever a template does wrong becomes a sentence
        answer = "failed", f"cannot be rendered: {type(error).__name__}: {str(error)[:500]}"
    sys.stdout.buffer.write("\n".join(answer).encode("utf-8", "surrogatepass"))


def _render(environment: Any, request: dict[str, Any]) -> str:
    pieces: list[str] = []
    n_left = request["output_bytes"] // 4
    for piece in environment.from_string(request["source"]).generate(**request["variables"]):
        pieces.append(piece)
        n_left -= len(piece)
        if n_left < 0:
            raise ValueError("it writes more text than any context holds")
    return "".join(pieces)


def _limit(cpu_seconds: int, memory_bytes: int, output_bytes: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: output_bytes,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # At the hard limit of CPU time the system sends SIGKILL, which could mean anything.
        most_ever = soft + 1 if kind == resource.RLIMIT_CPU and soft != hard else soft
        try:
            resource.setrlimit(kind, (soft, most_ever))
        except (OSError, ValueError):
            continue  # this system has no such limit; the others, and the clock of the parent, hold


def _environment() -> Any:
    """As the libraries that these templates are written for set it up."""
    from jinja2 import nodes  # noqa: PLC0415  found on the paths of the request
    from jinja2.ext import Extension, loopcontrols  # noqa: PLC0415  as above
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415  as above

    class Generation(Extension):
        """`{% generation %}` marks what a model wrote, for those who train it; here it is what stands inside."""

        tags = {"generation"}  # noqa: RUF012  so does jinja2

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def refuse(message: object = "") -> None:
        raise Refused(str(message))

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    def now(form: str) -> str:
        return datetime.now().astimezone().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=refuse, strftime_now=now)
    return environment


if __name__ == "__main__":
    main()
