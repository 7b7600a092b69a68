"""A guest's proxy for packages: what it keeps, when it asks the mirror, and what it never does."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from provisioner.system.redaction import whole_forms
from shared.cache.packages import PackageCache
from shared.machines.metadata_server import MetadataServer, machine_routes
from shared.machines.package_proxy import PackageProxy, open_package_proxy
from shared.machines.upstream import BadTarget, OwnHost, Upstream, connect_elsewhere, is_direct, mirror_url
from tests.shared.machines.mirror import Mirror, Reply, running_mirror, versioned

DEB = "http://mirror.example/debian/pool/main/a/a_1_all.deb"
RELEASE = "http://mirror.example/debian/dists/stable/InRelease"
DATA = bytes(range(256)) * 4000
BY_HASH = f"http://mirror.example/debian/dists/stable/main/by-hash/SHA256/{hashlib.sha256(DATA).hexdigest()}"


class Guest:
    """A machine that reaches its metadata server, through whose socket all its requests go."""

    def __init__(self, cache: PackageCache | None, mirror: Mirror, site: Mapping[str, str] | None = None) -> None:
        self.proxy = PackageProxy(cache, Upstream(site, mirror.connect))
        self._stack = ExitStack()
        routes = machine_routes(lambda message: None, "tiny-0123456789ab")
        self.server = self._stack.enter_context(MetadataServer("vm", routes, proxy=self.proxy))
        self._stack.callback(self.proxy.upstream.close)
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
        self._stack.close()

    def ask(self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> http.client.HTTPResponse:
        """Send a request on the one connection that is open, as apt does."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("unused")
            self._connection.sock = socket.socket(socket.AF_UNIX)
            self._connection.sock.connect(f"\0{self.server.socket_name}")
        self._connection.request(method, url, headers=dict(headers or {}))
        return self._connection.getresponse()

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        response = self.ask(url, headers)
        return response.status, response.read()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with running_mirror() as running:
        running.files["/debian/pool/main/a/a_1_all.deb"] = DATA
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[PackageCache]:
    with PackageCache(tmp_path) as cache:
        yield cache


def test_a_package_is_fetched_once(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as first:
        assert first.get(DEB) == (200, DATA)
    with Guest(cache, mirror) as second:
        assert second.get(DEB) == (200, DATA)
        assert (second.proxy.count.cached, second.proxy.count.fetched) == (1, 0)
    assert len(mirror.paths()) == 1
    mirror.files.clear()
    with Guest(cache, mirror) as third:
        assert third.get(DEB) == (200, DATA)


def test_a_machine_that_asks_again_gets_the_mirrors_file(cache: PackageCache, mirror: Mirror) -> None:
    """It was not the file that the package lists tell of: a mirror has replaced it, against its rules."""
    with Guest(cache, mirror) as guest:
        guest.get(DEB)
    mirror.files["/debian/pool/main/a/a_1_all.deb"] = b"another"
    with Guest(cache, mirror) as guest:
        assert guest.get(DEB) == (200, DATA)
        assert guest.get(DEB) == (200, b"another")
    with Guest(cache, mirror) as guest:
        assert guest.get(DEB) == (200, b"another")


def test_lists_are_asked_for_each_time_and_sent_once(cache: PackageCache, mirror: Mirror) -> None:
    path = "/debian/dists/stable/InRelease"
    mirror.files[path] = versioned(b"one", '"1"')
    with Guest(cache, mirror) as guest:
        assert [guest.get(RELEASE), guest.get(RELEASE)] == [(200, b"one"), (200, b"one")]
        assert [headers.get("If-None-Match") for _, headers in mirror.asked] == [None, '"1"']
        assert (guest.proxy.count.fetched, guest.proxy.count.fetched_bytes) == (1, 3)
        mirror.files[path] = versioned(b"two", '"2"')
        assert guest.get(RELEASE) == (200, b"two")
        newest = {"If-Modified-Since": "Sat, 01 Nov 2026 00:00:00 GMT"}
        assert guest.get(RELEASE, newest) == (304, b"")
        assert guest.get(RELEASE) == (200, b"two")


def test_a_list_that_is_named_for_its_digest_is_held_to_it(cache: PackageCache, mirror: Mirror) -> None:
    path = BY_HASH.removeprefix("http://mirror.example")
    mirror.files[path] = b"not that"
    with Guest(cache, mirror) as guest:
        assert guest.get(BY_HASH) == (200, b"not that")
        assert cache.entries() == []
        mirror.files[path] = DATA
        assert guest.get(BY_HASH) == (200, DATA)
        assert guest.get(BY_HASH) == (200, DATA)
    assert mirror.paths() == [path, path]


@pytest.mark.parametrize("path", ["/key.asc", "/debian/pool/a.deb?token=1", "/debian/pool/a.debx", "/a.deb/more"])
def test_all_else_is_passed_on_and_not_kept(cache: PackageCache, mirror: Mirror, path: str) -> None:
    mirror.files[path] = b"data"
    with Guest(cache, mirror) as guest:
        assert guest.get(f"http://mirror.example{path}") == (200, b"data")
    assert mirror.paths() == [path]
    assert cache.entries() == []


def test_a_file_behind_a_password_is_not_kept(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as guest:
        assert guest.get(DEB, {"Authorization": "Basic eDp5"}) == (200, DATA)
    assert mirror.asked[0][1]["Authorization"] == "Basic eDp5"
    assert cache.entries() == []


def test_no_url_with_a_secret_of_the_steps_is_written_to_the_cache(tmp_path: Path, mirror: Mirror) -> None:
    mirror.files["/s%C3%A4cret9/pool/a_1_all.deb"] = mirror.files["/other/pool/a_1_all.deb"] = DATA
    with ExitStack() as stack:
        opened = open_package_proxy(tmp_path, {}, stack, whole_forms("s\u00e4cret9".encode()))
        assert opened.cache is not None
        with Guest(opened.cache, mirror) as guest:
            guest.proxy.hidden = opened.hidden
            for folder in ("s%C3%A4cret9", "other"):
                assert guest.get(f"http://mirror.example/{folder}/pool/a_1_all.deb") == (200, DATA)
        assert [entry.url for entry in opened.cache.entries()] == ["http://mirror.example/other/pool/a_1_all.deb"]
        assert "cret9" not in repr(opened)


def test_what_a_guest_sends_does_not_reach_the_mirror(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as guest:
        guest.get(DEB, {"Range": "bytes=5-", "X-Forwarded-For": "10.0.0.1", "Cookie": "a=b", "If-None-Match": "x"})
    [(_, headers)] = mirror.asked
    assert headers == {"Host": "mirror.example", "User-Agent": "Goldsmith"}
    assert cache.entries()[0].bytes == len(DATA)


def test_answers_that_are_no_file_are_passed_on_as_they_are(cache: PackageCache, mirror: Mirror) -> None:
    mirror.files["/debian/pool/b.deb"] = lambda _: (302, {"Location": "https://mirror.example/b.deb"}, b"")
    with Guest(cache, mirror) as guest:
        response = guest.ask("http://mirror.example/debian/pool/b.deb")
        assert (response.status, response.getheader("Location"), response.read()) == (
            302,
            "https://mirror.example/b.deb",
            b"",
        )
        assert guest.get("http://mirror.example/debian/pool/c.deb") == (404, b"no such file")
    assert cache.entries() == []


def cut(_: Mapping[str, str]) -> Reply:
    return 200, {"Content-Length": "1000", "Connection": "close"}, b"half"


def in_pieces(_: Mapping[str, str]) -> Reply:
    return 200, {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def cut_in_pieces(_: Mapping[str, str]) -> Reply:
    return 200, {"Transfer-Encoding": "chunked", "Connection": "close"}, b"3\r\nabc\r\n5\r\nde"


@pytest.mark.parametrize("reply", [cut, cut_in_pieces])
def test_an_answer_that_breaks_off_breaks_off_for_the_guest(cache: PackageCache, mirror: Mirror, reply: object) -> None:
    mirror.files["/debian/pool/b.deb"] = reply  # type: ignore[assignment]
    with Guest(cache, mirror) as guest, pytest.raises(http.client.IncompleteRead):
        guest.get("http://mirror.example/debian/pool/b.deb")
    assert cache.entries() == []


def test_an_answer_of_unknown_length_is_kept_when_its_end_was_seen(cache: PackageCache, mirror: Mirror) -> None:
    mirror.files["/debian/pool/b.deb"] = in_pieces
    with Guest(cache, mirror) as guest:
        assert guest.get("http://mirror.example/debian/pool/b.deb") == (200, b"abcde")
        assert guest.get("http://mirror.example/debian/pool/b.deb") == (200, b"abcde")
    assert len(mirror.paths()) == 1


def test_a_mirror_that_is_down_is_named_in_the_status_that_apt_prints(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as guest:
        response = guest.ask("http://down.example/debian/dists/stable/InRelease")
        assert (response.status, response.reason) == (502, "down.example: Connection refused")
        response.read()
        assert guest.get(DEB)[0] == 200


def test_a_guest_that_hangs_up_leaves_nothing(cache: PackageCache, mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/debian/pool/large.deb"] = bytes(32 << 20)
    with Guest(cache, mirror) as guest, socket.socket(socket.AF_UNIX) as raw:
        raw.connect(f"\0{guest.server.socket_name}")
        raw.sendall(b"GET http://mirror.example/debian/pool/large.deb HTTP/1.1\r\n\r\n")
        raw.recv(1000)
        raw.close()
        assert guest.get(DEB) == (200, DATA)
    assert [entry.url for entry in cache.entries()] == [DEB]


def test_without_a_cache_all_is_passed_on(mirror: Mirror) -> None:
    with Guest(None, mirror) as guest:
        assert [guest.get(DEB), guest.get(DEB)] == [(200, DATA), (200, DATA)]
    assert len(mirror.paths()) == 2


def test_a_home_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with ExitStack() as stack:
        assert open_package_proxy(tmp_path, {}, stack).cache is None


def test_guests_at_the_same_time_get_the_same_file(cache: PackageCache, mirror: Mirror) -> None:
    got: list[tuple[int, bytes]] = []

    def fetch() -> None:
        with Guest(cache, mirror) as guest:
            got.append(guest.get(DEB))

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [(200, DATA)] * 8
    assert len(cache.entries()) == 1


def test_connections_to_a_mirror_are_used_again(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as guest:
        for number in range(5):
            guest.get(f"http://mirror.example/{number}")
    assert mirror.connections == [("mirror.example", 80)]


def test_the_sites_proxy_is_used_with_its_credentials(cache: PackageCache, mirror: Mirror) -> None:
    site = {"http": "http://ann:p%2Fss@proxy.example:3128", "no_proxy": "localhost,.direct.example"}
    mirror.files[DEB] = b"by proxy"
    with Guest(cache, mirror, site) as guest:
        assert guest.get(DEB) == (200, b"by proxy")
        guest.get("http://a.direct.example/key")
    (target, headers), (direct, _) = mirror.asked
    assert (target, headers["Host"], headers["Proxy-Authorization"]) == (DEB, "mirror.example", "Basic YW5uOnAvc3M=")
    assert direct == "/key"
    assert mirror.connections == [("proxy.example", 3128), ("a.direct.example", 80)]


@pytest.mark.parametrize(
    "target",
    [
        *("http://", "http://x:y@host/", "http://host:99999/", "http://ho st/", "http://[::1/", "http://host/\x7f"),
        *(f"http://host/{'a' * 5000}", "http://-x/", "https://host/", "http://host/ä"),
    ],
)
def test_what_is_no_url_is_refused(target: str) -> None:
    with pytest.raises(BadTarget):
        mirror_url(target)


def test_only_get_is_done(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as guest:
        assert guest.ask(DEB, method="POST", headers={"Content-Length": "0"}).status == 405
    assert mirror.asked == []


def test_the_guests_own_server_is_where_it_was(cache: PackageCache, mirror: Mirror) -> None:
    with Guest(cache, mirror) as guest:
        assert guest.get("/computeMetadata/v1/")[0] == 404
    assert mirror.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1"])
def test_no_connection_leads_to_this_host(mirror: Mirror, host: str) -> None:
    with pytest.raises(PermissionError, match="is the host of this build"):
        connect_elsewhere(host, mirror.port)
    with pytest.raises(OwnHost, match="is the host of this build"):
        Upstream().get(mirror_url(f"http://{f'[{host}]' if ':' in host else host}:{mirror.port}/"), {})
    assert mirror.asked == []


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        *(("a.example", ".example", True), ("example", ".example", True), ("example", "example", True)),
        *(("notexample", "example", False), ("a.example", "*.example", True), ("a.example", "*", True)),
        *(("10.1.2.3", "10.0.0.0/8", True), ("11.1.2.3", "10.0.0.0/8", False), ("fd00::7", "fd00::/8", True)),
        *(("a.example", "", False), ("a.example", "10.0.0.0/8,x", False), ("10.1.2.3", "2.3", False)),
    ],
)
def test_hosts_that_need_no_proxy(host: str, no_proxy: str, direct: bool) -> None:
    assert is_direct(host, no_proxy) is direct
