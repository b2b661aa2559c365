# Copyright (c) MotionMAE contributors. All rights reserved.
"""HTTP server of a folder that answers range requests, for loopback."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_RANGE = re.compile(r'bytes=(\d+)-(\d*)')


class RangeHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = 'HTTP/1.1'
    # Headers and body leave in one piece, not when the client has confirmed.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: 'RangeServer'

    def do_GET(self) -> None:  # noqa: N802
        """Send a file, or a range of it."""
        data = self.server.find(unquote(self.path))
        if data is None:
            self.answer(HTTPStatus.NOT_FOUND, b'')
            return
        wanted = _RANGE.fullmatch(self.headers.get('Range', ''))
        if wanted is None:
            self.answer(HTTPStatus.OK, data)
            return
        start, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        if start >= len(data):
            self.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b'')
            return
        last = min(last, len(data) - 1)
        self.answer(
            HTTPStatus.PARTIAL_CONTENT,
            data[start : last + 1],
            f'bytes {start}-{last}/{len(data)}',
        )

    do_HEAD = do_GET  # noqa: N815

    def answer(
        self, status: HTTPStatus, body: bytes, content_range: str = ''
    ) -> None:
        """Send an answer; to HEAD without the body."""
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Accept-Ranges', 'bytes')
        if content_range:
            self.send_header('Content-Range', content_range)
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class RangeServer(ThreadingHTTPServer):
    """Serves the files of a folder, at a free port of this machine.

    Args:
        folder: What is below it is served.
        handler: What answers.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, folder: Path, handler: type[RangeHandler] = RangeHandler
    ) -> None:
        super().__init__(('127.0.0.1', 0), handler)
        self.folder = folder
        self._files: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        """Of the folder, without a slash at the end."""
        return f'http://127.0.0.1:{self.server_address[1]}'

    def find(self, path: str) -> bytes | None:
        """The content of a file, kept in memory; None if there is none."""
        if path not in self._files:
            file = self.folder / path.lstrip('/')
            if not file.is_file():
                return None
            self._files[path] = file.read_bytes()
        return self._files[path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread; yields the URL."""
        thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), daemon=True
        )
        thread.start()
        try:
            yield self.url
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder in a process of its own; yields the URL.

    So that it takes no time from who reads.
    """
    context = get_context('fork')
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(folder, theirs), daemon=True
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, connection: Connection) -> None:
    server = RangeServer(folder)
    connection.send(server.url)
    server.serve_forever()
