"""install-anthos: the installer is fetched, run with the right words, and gone."""

from __future__ import annotations

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

from provisioner.output import Console, Output
from provisioner.process import TimedOut
from provisioner.protocol import InstallAnthos
from provisioner.steps import StepError, Workshop
from provisioner.steps.install_anthos import INSTALLER, install

PROGRAM = '#!/bin/sh\necho "$PWD: $@"\ntouch installed-here\nexit {status}\n'


def archive(status: int = 0, name: str = "anthos_installer") -> bytes:
    """An installer, packed as Google packs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        for member, text in (("README", "read me"), (name, PROGRAM.format(status=status))):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            members.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


class Storage(ThreadingHTTPServer):
    """A bucket that only somebody with the token may read, and the one who gives tokens."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.data = archive()
        self.statuses = [200]
        self.missing = [0]  # bytes that are promised and do not come, of each answer
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        if self.path == "/token":
            self.answer(200, b'{"access_token": "secret", "expires_in": 60}')
            return
        self.server.asked.append(self.headers.get("Authorization", ""))
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
        """Say nothing."""


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

    def install(self, spec: str, workdir: str | None = None, token: str = "/token", seconds: float = 30) -> int:
        """Do the step."""
        self.output = Output("anthos", str(self.path / "log"), Console(os.devnull))
        workshop = Workshop(str(self.path / "root"), str(self.context), self.output, time.monotonic() + seconds)
        inputs = InstallAnthos(spec, workdir)
        return install(inputs, workshop, f"{self.storage.url}/installer.tar.gz", self.storage.url + token)


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


def test_the_working_directory_can_be_chosen_and_stays(place: Place) -> None:
    """anthos-installer-install -top-workdir: working directory for package specs and tarballs."""
    assert place.install("spec.yaml", "/var/lib/anthos") == 0
    assert (place.path / "root/var/lib/anthos/installed-here").exists()


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
    """A state folder from which no program may be run, as below /var on Container-Optimized OS."""
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
    assert INSTALLER.startswith("https://storage.googleapis.com/cos-anthos-builds-us/anthos_installer-linux-amd64-")
