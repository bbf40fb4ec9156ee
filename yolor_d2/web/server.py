"""The server of the web page: one thread for each of a limited number of connections."""

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any

from ..errors import OptionError
from .handler import Handler, Site

MAX_CONNECTIONS = 128


class Server(ThreadingHTTPServer):
    """Serves a site; connections beyond the limit are closed at once."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, site: Site, *, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        handler = type("SiteHandler", (Handler,), {"site": site})
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            reason = error.strerror or "unknown"
            raise OptionError(f"port {port} of {host} cannot be used: {reason}") from None

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore users who leave or are too slow; print other errors."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(site: Site, *, host: str, port: int) -> Iterator[str]:
    """Serve the page in a thread; yields its address."""
    with Server(site, host=host, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield address_of(host, port, site.access.token)
        finally:
            server.shutdown()
            site.queue.close()


def address_of(host: str, port: int, token: str) -> str:
    """Return the address of the page, by the name of this machine if it listens everywhere."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def wait_for_signal() -> None:
    """Wait for SIGINT (Ctrl-C) or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
