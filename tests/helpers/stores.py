# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tar shards, and an HTTP server that fails as told."""

import random
import tarfile
import threading
from collections import Counter
from http import HTTPStatus

from benchmarks.http_server import RangeHandler, RangeServer


def pack(path, files):
    """Write a tar file; returns the list's name of each member.

    Args:
        files: Name in the tar file -> path.
    """
    with tarfile.open(path, 'w') as shard:
        for name, file in files.items():
            shard.add(file, name)
    with tarfile.open(path) as shard:
        return [f'{path.name}@{m.offset_data}@{m.size}' for m in shard]


class FaultyHandler(RangeHandler):
    """Does to each request what the server has in mind for it."""

    def answer(self, status, body, content_range=''):
        fault = self.server.next_fault(self)
        if fault == 'error':
            status, body = HTTPStatus.SERVICE_UNAVAILABLE, b''
        elif fault == 'forbidden':
            status, body = HTTPStatus.FORBIDDEN, b''
        elif fault == 'stall':
            self.server.over.wait()
        elif fault == 'hang up':
            self.close_connection = True
            return
        elif fault == 'short' and self.command == 'GET':  # in good order
            body = body[: len(body) // 2]
        if fault != 'cut' or self.command == 'HEAD':
            super().answer(status, body, content_range)
            return
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True


class FaultyServer(RangeServer):
    """A server whose faults follow from the number of a request.

    Args:
        folder: What is served.
        shares: Fault -> share of the requests that meet it, drawn by a seed.
        first: Faults of the first requests, in this order.

    Attributes:
        over: Set when stalled requests may end.
        counts: How often each fault has come, None for none.
        requests: Method and path of each.
    """

    def __init__(self, folder, shares=None, first=(), seed=0):
        super().__init__(folder, FaultyHandler)
        self.shares, self.first = dict(shares or {}), list(first)
        self.over = threading.Event()
        self.counts, self.requests = Counter(), []
        self._rng, self._lock = random.Random(seed), threading.Lock()

    def next_fault(self, handler):
        with self._lock:
            self.requests.append((handler.command, handler.path))
            if self.first:
                fault = self.first.pop(0)
            else:
                place = self._rng.random()
                fault = None
                for name, share in self.shares.items():
                    if 0 <= place < share:
                        fault = name
                    place -= share
            self.counts[fault] += 1
            return fault

    def shutdown(self):
        self.over.set()
        super().shutdown()
