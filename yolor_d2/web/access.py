"""Who can use the web page: server names, origins, the token, and the number of pictures."""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "yolor_d2_token"

# The page has no inline scripts or styles, and connects to nothing but its own server.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Headers(Protocol):
    """Headers of a request by name."""

    def get(self, name: str, /) -> str | None: ...


@dataclass(frozen=True)
class Access:
    """Rules about the headers of requests.

    Attributes:
        hosts: accepted names of the server; None accepts any. On loopback this refuses sites whose
            name points to this machine (DNS rebinding).
        token: password of all requests; "" for none.
    """

    hosts: frozenset[str] | None = LOOPBACK
    token: str = ""

    def refusal(self, headers: Headers, *, is_page: bool) -> tuple[int, str] | None:
        """Return status and reason for refusing a request; None if it is allowed.

        Args:
            headers: headers of the request.
            is_page: whether it asks for the page itself, to which other sites may link.
        """
        host = headers.get("Host") or ""
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return 400, "Unknown server name."
        if not is_page and not _is_own_origin(headers, host):
            return 403, "Other sites cannot use this page."
        if self.token and not self._has_token(headers):
            return 401, "Open the address with the token that the server printed when it started."
        return None

    def is_token(self, text: str) -> bool:
        """Compare a text with the token in constant time."""
        given = text.encode(errors="replace")
        return bool(self.token) and hmac.compare_digest(given, self.token.encode())

    def _has_token(self, headers: Headers) -> bool:
        given = (headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.is_token(given) or self.is_token(_cookie(headers.get("Cookie") or ""))


def query_value(query: str, name: str) -> str:
    """Return a value of the query of an address; "" without one."""
    try:
        return parse_qs(query, max_num_fields=9).get(name, [""])[0]
    except ValueError:
        return ""


def _is_own_origin(headers: Headers, host: str) -> bool:
    """Whether a request comes from the page itself or from a program, not from another site."""
    origin = headers.get("Origin")
    if origin is not None:
        return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
    return (headers.get("Sec-Fetch-Site") or "none") in ("same-origin", "none")


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _cookie(text: str) -> str:
    """The token in a header of cookies; other programs on this host can set any others."""
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), "")


class RateLimit:
    """A limit of events per minute for each address; all of them can come at once.

    Args:
        per_minute: the limit.
        clock: seconds.
    """

    MAX_ADDRESSES = 10_000  # beyond, those that have not used anything are forgotten

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._free_at: dict[str, float] = {}  # time at which the whole limit is free again
        self._lock = Lock()

    def seconds_to_wait(self, address: str) -> float:
        """Count an event and return 0, or return the seconds until the next event is allowed."""
        step = 60 / self.per_minute
        with self._lock:
            now = self._clock()
            if len(self._free_at) >= self.MAX_ADDRESSES:
                self._free_at = {key: at for key, at in self._free_at.items() if at > now}
            free_at = max(self._free_at.get(address, now), now) + step
            if free_at - now > 60 + 1e-6:
                return free_at - now - 60
            self._free_at[address] = free_at
            return 0.0
