"""A web server on the loopback address that gives files as servers do on their bad days."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUOTA_PAGE = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Too many users have viewed "
    b"or downloaded this file recently.</body></html>"
)


@dataclass
class Served:
    """What the server does, and what it was asked.

    Attributes:
        files: content by path.
        ranges: whether it can go on in mid-file.
        cut_after: how many bytes it sends of a reply before the line breaks; one entry a request, then whole replies.
        failures: status codes of the first requests, such as 503.
        changes: content that takes the place of a file after its first request.
        url: where it is.
        asked: the Range header of each request, "" without one.
    """

    files: dict[str, bytes]
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    changes: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        served, path = self.served, self.path.partition("?")[0]
        span = self.headers.get("Range", "")
        served.asked.append(span)
        if served.failures:
            self.send_response(served.failures.pop(0))
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        content = served.files.get(path)
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hash(content)}"'
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and served.ranges else 0
        if start and self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        if served.ranges:
            self.send_header("ETag", tag)
        page = content.startswith(b"<!DOCTYPE")
        self.send_header("Content-Type", "text/html" if page else "application/octet-stream")
        self.end_headers()
        sent = content[start:]
        if served.cut_after:
            sent = sent[: served.cut_after.pop(0)]
            self.close_connection = True
        self.wfile.write(sent)
        if path in served.changes:
            served.files[path] = served.changes.pop(path)


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serve until the end of the block."""
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
