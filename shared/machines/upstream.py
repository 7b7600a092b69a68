"""HTTP to mirrors on behalf of a guest, to no place that the guest itself would not reach.

The guest chooses the URL, so each address is checked before a connection to it is made, as the guard does for the
guest's own connections (network_guard.py). What is connected to is the address, and not the name, which could lead
elsewhere a moment later.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from .network_guard import IpAddress, is_of_host

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 30.0  # between two pieces of an answer
MOST_IDLE = 8  # connections that are kept for the next request
LONGEST_URL = 4096  # characters
_HOST = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9._]{0,252})|[0-9A-Fa-f:.]{2,45}")

Connect = Callable[[str, int], socket.socket]


class UpstreamFault(Exception):
    """The mirror gave no answer, or no whole one; the text says why, for the guest."""


class OwnHost(UpstreamFault):
    """The URL leads to the host of the build; asking again is of no use."""


class BadTarget(ValueError):
    """What the guest asks for is no URL of a mirror."""


@dataclass(frozen=True)
class MirrorUrl:
    """A URL that may be fetched."""

    host: str
    port: int
    path: str  # with the query

    @property
    def place(self) -> str:
        """Return HOST, or HOST:PORT, as a header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return the one form of the URL, by which its file is kept."""
        return f"http://{self.place}{self.path}"


def mirror_url(text: str) -> MirrorUrl:
    """Read the URL that a guest asks for. BadTarget."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise BadTarget("this is no URL") from error
    if parts.scheme.lower() != "http" or "@" in parts.netloc or not _HOST.fullmatch(host):
        raise BadTarget("only http://HOST/PATH is fetched here")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if len(text) > LONGEST_URL or not path.isascii() or not path.isprintable() or " " in path:
        raise BadTarget(f"a URL has at most {LONGEST_URL} characters of ASCII")
    return MirrorUrl(host.lower(), port, path)


class MirrorAnswer:
    """An answer whose body is still to be read. close() ends it."""

    def __init__(
        self, response: http.client.HTTPResponse, give_back: Callable[[], None], drop: Callable[[], None]
    ) -> None:
        self.status = response.status
        self.reason = response.reason
        self._response = response
        self._give_back = give_back
        self._drop = drop
        self._ended = False
        told = response.getheader("Content-Length", "")
        self.is_framed = response.chunked or response.length is not None  # its end can be told from a broken connection
        self.length = int(told) if response.length is not None and told.isdigit() else None

    def header(self, name: str) -> str:
        """Return a header in one line; "" without it."""
        return " ".join((self._response.getheader(name) or "").split())

    def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end. UpstreamFault."""
        try:
            data = self._response.read1(1 << 16)
        except (OSError, http.client.HTTPException) as error:
            raise UpstreamFault(_described(error)) from error
        if not data and not self._response.length:  # else it has broken off
            self._response.close()
        return data

    def close(self) -> None:
        """End it. A connection whose answer has been read to its end is used again."""
        if self._ended:
            return
        self._ended = True
        if self._response.isclosed() and not self._response.will_close:
            self._give_back()
        else:
            self._drop()


class Upstream:
    """The mirrors, as a machine reaches them. `proxy` has the keys http and no_proxy of a job's."""

    def __init__(self, proxy: Mapping[str, str] | None = None, connect: Connect | None = None) -> None:
        self._proxy = proxy or {}
        self._connect = connect or connect_elsewhere
        self._idle: list[tuple[str, int, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._closed = False

    def get(self, url: MirrorUrl, headers: Mapping[str, str]) -> MirrorAnswer:
        """Ask for a URL. UpstreamFault."""
        host, port, target, more = url.host, url.port, url.path, {}
        proxy = self._proxy.get("http", "")
        if proxy and not is_direct(url.host, self._proxy.get("no_proxy", "")):
            login, _, place = proxy.removeprefix("http://").rpartition("@")
            parts = urlsplit(f"//{place}")
            host, port, target = parts.hostname or "", parts.port or 80, str(url)
            if login:
                more = {"Proxy-Authorization": f"Basic {b64encode(unquote(login).encode()).decode()}"}
        while True:
            idle = self._take(host, port)
            connection = idle or self._opened(host, port)
            try:
                connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
                for name, value in {"Host": url.place, "User-Agent": "Goldsmith", **headers, **more}.items():
                    connection.putheader(name, value)
                connection.endheaders()
                response = connection.getresponse()
            except (OSError, ValueError, http.client.HTTPException) as error:
                connection.close()
                if idle is None:
                    raise UpstreamFault(_described(error)) from error
                continue  # the mirror has closed a connection that was idle
            return MirrorAnswer(response, partial(self._give, host, port, connection), connection.close)

    def close(self) -> None:
        """Close the connections that nothing uses, and those in use when their answers end."""
        with self._lock:
            self._closed = True
            for *_, connection in self._idle:
                connection.close()
            self._idle.clear()

    def _opened(self, host: str, port: int) -> http.client.HTTPConnection:
        try:
            opened = self._connect(host, port)
        except PermissionError as error:
            raise OwnHost(f"{host} {error}") from error
        except OSError as error:
            raise UpstreamFault(f"{host}: {_described(error)}") from error
        opened.settimeout(SILENT_SECONDS)
        connection = http.client.HTTPConnection(host, port)
        connection.auto_open = 0  # it connects by itself nowhere
        connection.sock = opened
        return connection

    def _take(self, host: str, port: int) -> http.client.HTTPConnection | None:
        with self._lock:
            for index, (idle_host, idle_port, connection) in enumerate(self._idle):
                if (idle_host, idle_port) == (host, port):
                    del self._idle[index]
                    return connection
        return None

    def _give(self, host: str, port: int, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append((host, port, connection))
            oldest = self._idle.pop(0)[2] if self._closed or len(self._idle) > MOST_IDLE else None
        if oldest is not None:
            oldest.close()


def connect_elsewhere(host: str, port: int) -> socket.socket:
    """Connect to a host that is not this one, by IPv4 first, as guests do. PermissionError for this one, OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    fault: OSError = OSError("it has no address")
    for family, kind, protocol, _, place in sorted(found, key=lambda each: each[0] != socket.AF_INET):
        if is_of_host(ipaddress.ip_address(str(place[0]).partition("%")[0])):
            fault = PermissionError("is the host of this build, which builds do not reach")
            continue
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(CONNECT_SECONDS)
            opened.connect(place)
        except OSError as error:
            fault = error
            opened.close()
        else:
            return opened
    raise fault


def is_direct(host: str, no_proxy: str) -> bool:
    """Return whether a list as in the variable no_proxy has a host: by name, or as a part of a domain or network."""
    address: IpAddress | None = None
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
    for entry in filter(None, no_proxy.lower().split(",")):
        name = entry.removeprefix("*").removeprefix(".")
        if entry == "*" or host == name or (name and address is None and host.endswith(f".{name}")):
            return True
        with suppress(ValueError):
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def _described(error: Exception) -> str:
    """Return what went wrong in printable ASCII, for one line of an answer."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)[:200]
