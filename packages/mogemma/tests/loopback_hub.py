"""A hub on this machine: as much of the hub's protocol as its client speaks, and every way in which it can go wrong.

Large files are served as the real one does: the hub redirects, with their digest, size and commit in headers, to a content
server of another address, which knows ranges and is not to be given the token.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

TOKEN = "hf_right"

_MODEL = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """What the hub has under one id.

    Attributes:
        files: Content by name.
        large: Endings of the names that are kept as large files.
        gated: Files only for who has a token that is in `accepted`.
        lies: Names of files of which the content server sends something else.
        gone: Names that are listed, and not found when they are asked for.
    """

    files: dict[str, bytes]
    licence: str = "gemma"
    gated: bool = False
    accepted: set[str] = field(default_factory=lambda: {TOKEN})
    large: tuple[str, ...] = (".gguf", ".safetensors")
    lies: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    @property
    def commit(self) -> str:
        """Another one for each content."""
        digests = [f"{name} {sha256(data)}" for name, data in sorted(self.files.items())]
        return hashlib.sha1("\n".join(digests).encode(errors="replace")).hexdigest()

    def is_large(self, name: str) -> bool:
        return name.endswith(self.large)


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    server: str

    @property
    def file(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Answer(NamedTuple):
    """What a fault sends instead of the file or the description."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class LoopbackHub:
    """Two servers on this machine.

    Attributes:
        repositories: By id; change it while it runs.
        requests: All that came, in order.
        fault: Is asked first about each request.
        cut_after: The content server breaks off after so many bytes of a file, so many times.
        knows_ranges: Whether the content server sends a part when it is asked for one.
        hold: The content server sends the first half of a file, then waits for this.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.fault: Callable[[Request], Answer | None] = lambda _: None
        self.cut_after: tuple[int, int] = (0, 0)
        self.knows_ranges = True
        self.hold: threading.Event | None = None
        self._lock = threading.Lock()
        self._servers = [self._serve(handle) for handle in (self._hub, self._content)]
        self.url, self.content_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def asked(self, method: str, file: str) -> list[Request]:
        """What the content server was asked of a file."""
        repositories = self.repositories.values()
        digests = {sha256(repository.files[file]) for repository in repositories if file in repository.files}
        return [each for each in self.requests if each.method == method and each.file in digests]

    def close(self) -> None:
        if self.hold is not None:
            self.hold.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, handle: Callable[[BaseHTTPRequestHandler], None]) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                handle(self)

            do_HEAD = do_GET  # noqa: N815  its name is the server's

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name is the server's
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _noted(self, handler: BaseHTTPRequestHandler, server: str) -> Request:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, unquote(urlsplit(handler.path).path), headers, server)
        with self._lock:
            self.requests.append(request)
        return request

    def _hub(self, handler: BaseHTTPRequestHandler) -> None:
        request = self._noted(handler, "hub")
        answer = self.fault(request) or self._described(request) or self._resolved(request)
        _send(handler, answer or _error(404, "RepoNotFound", "Repository not found"))

    def _described(self, request: Request) -> Answer | None:
        match = _MODEL.fullmatch(request.path)
        repository = self.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            return None
        body = {
            "id": match[1],
            "modelId": match[1],
            "sha": repository.commit,
            "private": False,
            "gated": "manual" if repository.gated else False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": {"license": repository.licence},
            "siblings": [_sibling(name, data, repository) for name, data in repository.files.items()],
        }
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _resolved(self, request: Request) -> Answer | None:
        match = _RESOLVE.fullmatch(request.path)
        repository = self.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            return None
        if (
            repository.gated
            and request.headers.get("authorization", "").removeprefix("Bearer ") not in repository.accepted
        ):
            status = 403 if "authorization" in request.headers else 401
            return _error(status, "GatedRepo", "Access to this model is restricted")
        if match[2] not in {"main", repository.commit}:
            return _error(404, "RevisionNotFound", "Invalid rev id")
        name = match[3]
        if name not in repository.files or name in repository.gone:
            return _error(404, "EntryNotFound", "Entry not found")
        data, commit = repository.files[name], {"X-Repo-Commit": repository.commit}
        if not repository.is_large(name):
            return Answer(200, {**commit, "ETag": f'W/"{git_sha1(data)}"'}, data)
        headers = {
            "Location": f"{self.content_url}/{quote(name)}/{sha256(data)}",
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{sha256(data)}"',
        }
        return Answer(302, {**commit, **headers})

    def _content(self, handler: BaseHTTPRequestHandler) -> None:
        request = self._noted(handler, "content")
        for repository in self.repositories.values():
            for name, data in repository.files.items():
                if sha256(data) == request.file:
                    sent = bytes(len(data)) if name in repository.lies else data
                    self._send_content(handler, request, sent)
                    return
        _send(handler, _error(404, "EntryNotFound", "No such content"))

    def _send_content(self, handler: BaseHTTPRequestHandler, request: Request, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        first = int(wanted[1]) if wanted and self.knows_ranges else 0
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - first))
        handler.end_headers()
        body = data[first:]
        with self._lock:
            n_bytes, times = self.cut_after
            cuts = times > 0
            self.cut_after = (n_bytes, times - 1)
        if cuts:
            handler.wfile.write(body[:n_bytes])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.close()
            return
        if self.hold is not None:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            self.hold.wait(30)
            body = body[len(body) // 2 :]
        try:
            handler.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True


@contextmanager
def running_hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    try:
        yield hub
    finally:
        hub.close()


def folder_files(folder: Path) -> dict[str, bytes]:
    """All files of a model's folder but for those that the tests keep beside it."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if file.suffix not in {".npz", ".gguf"}}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def too_many(seconds: int) -> Answer:
    return Answer(429, {"Retry-After": str(seconds)})


def _sibling(name: str, data: bytes, repository: Repository) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
    if repository.is_large(name):
        row["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
    return row


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"X-Error-Code": code, "X-Error-Message": message}, json.dumps({"error": message}).encode())


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(answer.body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(answer.body)
