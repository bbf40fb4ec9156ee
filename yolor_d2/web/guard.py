"""A filter in front of the web page: only requests that the page needs reach Gradio.

Gradio also has routes that fetch URLs, proxy requests or edit its own code. A list of allowed paths
stays safe when new versions add routes.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

API = "/gradio_api"
PAGES = frozenset(
    {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
    | {f"{API}/{name}" for name in ("startup-events", "upload", "upload_progress")}
    | {f"{API}/{name}" for name in ("queue/join", "queue/data", "cancel", "reset")}
)
FOLDERS = ("/assets/", "/static/", f"{API}/heartbeat/")

# Makes the browser refuse connections to other servers.
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline'",  # the page's settings are an inline script
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = [
    (b"content-security-policy", "; ".join(f"{k} {v}" for k, v in POLICY.items()).encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

MAX_MESSAGE = 1 << 20  # bytes of a request other than an upload
MULTIPART = 1 << 16  # bytes that a form adds to its file


class Guard:
    """ASGI middleware that refuses requests that the page does not need.

    Args:
        app: the app of Gradio.
        files: the only folder whose files are served.
        max_upload: largest upload in bytes.
        hosts: accepted names of the server; None accepts any. On loopback this refuses pages of
            other sites whose name points to this machine (DNS rebinding).
    """

    def __init__(
        self, app: App, *, files: str, max_upload: int, hosts: frozenset[str] | None = LOOPBACK
    ) -> None:
        self.app = app
        self.files = f"{API}/file={files.rstrip('/')}/"
        self.max_upload = max_upload
        self.hosts = hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            send = _with_headers(send)
            if refusal := self.refusal(scope):
                await _answer(send, *refusal)
            else:
                await self.app(scope, receive, send)
        else:  # the page uses no web sockets
            await send({"type": "websocket.close"})

    def refusal(self, scope: Message) -> tuple[int, str] | None:
        """Return status and reason for refusing a request; None if the page needs it."""
        headers = dict(scope["headers"])
        if self.hosts is not None and _host_name(headers) not in self.hosts:
            return 400, "unknown server name"
        if not self.is_needed(scope["path"]):
            return 404, "no such page"
        if scope["method"] == "POST":
            return self._size_refusal(scope["path"], headers.get(b"content-length", b""))
        return None

    def is_needed(self, path: str) -> bool:
        """Whether the page needs a path, given without escapes."""
        if ".." in path.split("/") or "\\" in path or "\0" in path:
            return False
        return path.rstrip("/") in PAGES or path in PAGES or path.startswith((*FOLDERS, self.files))

    def _size_refusal(self, path: str, length: bytes) -> tuple[int, str] | None:
        """Check the announced length of a request; the server enforces it."""
        is_upload = path.rstrip("/") == f"{API}/upload"
        limit = self.max_upload + MULTIPART if is_upload else MAX_MESSAGE
        if not length.isdigit():
            return 411, "the request has no length"
        if int(length) > limit:
            return 413, f"at most {self.max_upload / 1e6:g} MB can be uploaded"
        return None


def _host_name(headers: dict[bytes, bytes]) -> str | None:
    try:
        return urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return send_more


async def _answer(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})
