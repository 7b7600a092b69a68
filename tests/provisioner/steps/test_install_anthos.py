"""install-anthos: the installer is downloaded, run with the right arguments, and removed."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from provisioner.protocol import InstallAnthos
from provisioner.steps.install_anthos import LARGEST_INSTALLER, STORAGE, install, unpack_installer
from provisioner.steps.step_context import StepContext, StepError
from provisioner.system.output import StepConsole, StepOutput
from provisioner.system.process import TimedOut

PROGRAM = '#!/bin/sh\necho "$PWD: $@"\ntouch installed-here\nexit {status}\n'


def archive(status: int = 0, name: str = "anthos_installer") -> bytes:
    """Return an installer, packed as Google packs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        for member, text in (("README", "read me"), (name, PROGRAM.format(status=status))):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            members.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


class Storage(ThreadingHTTPServer):
    """A bucket that needs a token, and the server that gives tokens."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.data = archive()
        self.statuses = [200]
        self.missing = [0]  # bytes of Content-Length that each answer does not send
        self.asked: list[str] = []
        self.paths: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        if self.path == "/token":
            self.answer(200, b'{"access_token": "secret", "expires_in": 60}')
            return
        self.server.asked.append(self.headers.get("Authorization", ""))
        self.server.paths.append(self.path)
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        missing = self.server.missing.pop(0) if len(self.server.missing) > 1 else self.server.missing[0]
        self.answer(status, self.server.data if status == 200 else b"", missing)

    def answer(self, status: int, data: bytes, missing: int = 0) -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) + missing))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def storage() -> Iterator[Storage]:
    with Storage() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Place:
    """A machine's folders, and the step on them."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self.path, self.storage = path, storage
        self.state, self.context = path / "state", path / "state/context"
        self.context.mkdir(parents=True)
        (self.context / "spec.yaml").write_text("a spec")

    def install(self, spec: str, token: str = "/token", seconds: float = 30, **inputs: str) -> int:
        """Do the step."""
        self.output = StepOutput("anthos", str(self.path / "log"), StepConsole(os.devnull))
        context = StepContext(str(self.path / "root"), str(self.context), self.output, time.monotonic() + seconds)
        return install(InstallAnthos(spec, **inputs), context, self.storage.url + "/", self.storage.url + token)


@pytest.fixture
def place(tmp_path: Path, storage: Storage) -> Place:
    return Place(tmp_path, storage)


@pytest.mark.parametrize("spec", ["https://example.com/a/spec.yaml", "http://example.com/s", "gs://bucket/spec.yaml"])
def test_a_spec_elsewhere_is_the_installers_to_fetch(place: Place, spec: str) -> None:
    """anthos-installer-install -pkgspec-url: http(s) or gs://."""
    assert place.install(spec) == 0
    told = f"{place.state}/anthos: install -pkgspec-url={spec} -build-contextdir={place.context}"
    assert place.output.tail.decode() == told + "\n"
    assert place.storage.asked == ["Bearer secret"]
    assert [path.name for path in place.state.iterdir()] == ["context"]


def test_a_spec_may_be_in_the_context(place: Place) -> None:
    """anthos-installer-install -pkgspec-url: a path in the context."""
    assert place.install("spec.yaml") == 0
    assert f" -pkgspec-url={place.context}/spec.yaml " in place.output.tail.decode()


def test_a_folder_of_specs_may_be_in_the_context(place: Place) -> None:
    """anthos-installer-install -pkgspec-url: a folder, as in the original's own example."""
    (place.context / "pkgspec").mkdir()
    assert place.install("pkgspec") == 0
    assert f" -pkgspec-url={place.context}/pkgspec " in place.output.tail.decode()


def test_the_working_directory_can_be_chosen_and_stays(place: Place) -> None:
    """anthos-installer-install -top-workdir: told to the installer, which keeps package specs and tarballs there."""
    assert place.install("spec.yaml", workdir="/var/lib/anthos") == 0
    assert (place.path / "root/var/lib/anthos/installed-here").exists()
    assert place.output.tail.decode().endswith(f" -top-workdir={place.path}/root/var/lib/anthos\n")


@pytest.mark.parametrize(
    ("installer", "path", "asked"),
    [
        ("gs://bucket/a b/1.tar.gz", "/bucket/a%20b/1.tar.gz", "Bearer secret"),
        ("URL/mine.tar.gz", "/mine.tar.gz", "Bearer secret"),
        ("OTHER/mine.tar.gz", "/mine.tar.gz", ""),
    ],
    ids=["gs", "by https", "elsewhere"],
)
def test_another_installer_may_be_named(place: Place, installer: str, path: str, asked: str) -> None:
    """The access token goes to Cloud Storage, and to no other host."""
    other = place.storage.url.replace("127.0.0.1", "localhost")
    url = installer.replace("URL", place.storage.url).replace("OTHER", other)
    assert place.install("spec.yaml", installer=url) == 0
    assert (place.storage.paths, place.storage.asked) == ([path], [asked])


def test_the_installers_status_is_the_steps(place: Place) -> None:
    place.storage.data = archive(status=7)
    assert place.install("spec.yaml") == 7
    assert [path.name for path in place.state.iterdir()] == ["context"]


def test_a_storage_that_stumbles_is_asked_again(place: Place) -> None:
    place.storage.statuses = [503, 200]
    assert place.install("spec.yaml") == 0
    assert "HTTP 503 Service Unavailable: trying again" in place.output.tail.decode()


def test_an_answer_that_is_cut_off_is_asked_for_again(place: Place) -> None:
    place.storage.missing = [10, 0]
    assert place.install("spec.yaml") == 0
    assert "the connection was closed in the middle: trying again" in place.output.tail.decode()


def test_who_has_no_token_asks_without(place: Place) -> None:
    assert place.install("spec.yaml", token="/elsewhere-there-is-a-tar") == 0
    assert place.storage.asked[-1] == ""


@pytest.mark.parametrize(
    ("status", "data", "why"),
    [
        (403, b"", "cannot be fetched: HTTP 403 Forbidden; see that the build VM's service account may read it"),
        (200, b"not an archive", "the archive of anthos_installer is damaged"),
        (200, archive()[:-30], "the archive of anthos_installer is damaged"),
        (200, archive(name="other"), "the archive of anthos_installer does not hold that program"),
    ],
)
def test_no_installer_is_an_error_that_says_why(place: Place, status: int, data: bytes, why: str) -> None:
    place.storage.statuses, place.storage.data = [status], data
    with pytest.raises(StepError, match=why):
        place.install("spec.yaml")
    assert [path.name for path in place.state.iterdir()] == ["context"]


@pytest.mark.parametrize("spec", ["absent.yaml", "../../log", "/etc/passwd"])
def test_a_spec_outside_is_refused(place: Place, spec: str) -> None:
    """anthos-installer-install -pkgspec-url: a path must be in the context."""
    with pytest.raises(StepError, match="the context"):
        place.install(spec)
    assert place.storage.asked == []


def test_time_is_limited(place: Place) -> None:
    place.storage.statuses = [503]
    with pytest.raises(TimedOut):
        place.install("spec.yaml", seconds=0.2)


@pytest.fixture
def forbidden(place: Place) -> Iterator[Place]:
    """Make a state folder without execution, as below /var on Container-Optimized OS."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(place.state)], check=True)
    try:
        place.context.mkdir()
        (place.context / "spec.yaml").touch()
        yield place
    finally:
        subprocess.run(["umount", str(place.state)], check=True)


def test_it_runs_where_programs_may_not(forbidden: Place) -> None:
    assert forbidden.install("spec.yaml") == 0
    assert [path.name for path in forbidden.state.iterdir()] == ["context"]


def test_the_installer_is_googles() -> None:
    """The archive of April 2022, which takes -top-workdir, as the original's newest does."""
    assert STORAGE == "https://storage.googleapis.com/"
    archive = "gs://cos-anthos-builds-us/anthos_installer-linux-amd64-v0.0.1-ecea8c6.tar.gz"
    assert InstallAnthos("spec.yaml").installer == archive


def header(name: str, size: int, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("kind", "name"), [(tarfile.GNUTYPE_LONGNAME, "x"), (tarfile.XHDTYPE, "x"), (tarfile.REGTYPE, "anthos_installer")]
)
def test_an_archive_unpacks_to_no_more_than_a_program(tmp_path: Path, kind: bytes, name: str) -> None:
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", compresslevel=1) as file:
        file.write(header(name, LARGEST_INSTALLER, kind))
        for _ in range(LARGEST_INSTALLER >> 20):
            file.write(bytes(1 << 20))
    with pytest.raises(StepError, match="is damaged"):
        unpack_installer(str(tmp_path / "bomb.tar.gz"), str(tmp_path))


DAMAGED = {
    "empty": b"",
    "its first two bytes": b"\x1f\x8b",
    "no archive inside": gzip.compress(b"no archive" * 99),
    "no gzip": b"no gzip",
    "cut short": gzip.compress(b"x")[:-9],
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)  # no names from the data: gzip puts the time in
def test_an_archive_that_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(StepError, match=r"is damaged|does not hold that program"):
        unpack_installer(str(tmp_path / "x.tar.gz"), str(tmp_path))
