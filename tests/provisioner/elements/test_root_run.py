"""root.d of elements: which package archives they name, and what their scripts say of programs that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from provisioner.elements.root_run import archive_places, date_of_index, missing_program, read_index

INDEX = b"-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: Debian\nDate: Sat, 28 Nov 2026 02:53:00 UTC\n"


class Archive(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        files = {"/debian/dists/new/InRelease": INDEX, "/debian/dists/old/Release": b"old"}
        self.send_response(500 if "broken" in self.path else 200 if self.path in files else 404)
        self.end_headers()
        self.wfile.write(files.get(self.path, b""))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def archive() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/debian"
        server.shutdown()
        thread.join()


def test_archives_are_those_of_the_mirror_and_of_the_sources() -> None:
    sources = (
        "default:deb http://one/debian bookworm main\n"
        "updates:deb [signed-by=/a b] http://one/debian/ bookworm-updates main contrib\n"
        "# comment\nsources:deb-src http://two/debian bookworm main\nshort:deb http://three\n"
        "flat:deb http://four/packages ./ main\n"
    )
    variables = {"DIB_DISTRIBUTION_MIRROR": "http://one/debian/", "DIB_RELEASE": "bookworm"}
    assert archive_places({**variables, "DIB_APT_SOURCES_CONF": sources}) == [
        ("http://four/packages", "./"),
        ("http://one/debian", "bookworm"),
        ("http://one/debian", "bookworm-updates"),
    ]
    assert archive_places({"DIB_RELEASE": "bookworm"}) == []
    assert (
        len(archive_places({"DIB_APT_SOURCES_CONF": "".join(f"a:deb http://{n}/ x main\n" for n in range(99))})) == 20
    )


def test_an_index_is_the_signed_one_or_else_the_plain_one() -> None:
    with archive() as url:
        assert read_index((url, "new")) == INDEX
        assert read_index((url, "old")) == b"old"
        for suite in ("none", "broken"):
            with pytest.raises(OSError):
                read_index((url, suite))
    with pytest.raises(OSError):
        read_index((url, "new"))
    with pytest.raises(OSError):
        read_index(("no address", "new"))


@pytest.mark.parametrize(
    ("index", "date"),
    [(INDEX, 1795834380), (b"", 0), (b"Date: yesterday\n", 0), (b"Date: \xff\n", 0), (b"Valid-Until: never\n", 0)],
)
def test_an_index_has_a_date(index: bytes, date: int) -> None:
    assert date_of_index(index) == date


@pytest.mark.parametrize(
    ("said", "program"),
    [
        ("/hooks/root.d/08-yum-chroot: line 110: dnf: command not found\nFailed to download\n", "dnf"),
        ("sh: 1: zypper: not found\n", "zypper"),
        ("env: \u2018qemu-img\u2019: No such file or directory\n", "qemu-img"),
        ("cat: /etc/nothing: No such file or directory\n", ""),
        ("E: package x was not found in the archive\n", ""),
        ("", ""),
    ],
)
def test_a_missing_program_is_found_in_what_a_script_said(said: str, program: str) -> None:
    assert missing_program(said.encode()) == program
