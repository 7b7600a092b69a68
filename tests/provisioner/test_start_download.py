"""The Python part of start.sh, which downloads, against a metadata server and a storage on this machine."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shared.delivery.bundle import start_script

ADDRESS = "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip"
METADATA = "/computeMetadata/v1/instance/attributes/"
SERVER = "http://169.254.169.254"
FILES = {"job.json": b"{}", "bootstrap.sh": b"#!/bin/sh\n", "provisioner.pyz": bytes(5000)}


def packed(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


@dataclass
class Vm:
    """A VM's folders, its metadata and the objects at its URLs. `cut` answers end early."""

    folder: Path
    url: str = ""
    address: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cidata, self.state = self.folder / "cidata", self.folder / "state"
        self.kept, self.patience = self.state / "download", self.folder / "patience"
        self.patience.write_text("1000000000\n")  # seconds after the boot of this machine

    def offer(self, attribute: str, path: str, data: bytes) -> None:
        """Name an object in the metadata, as a signed URL does."""
        self.objects[path] = data
        self.attributes[attribute] = f"{self.url}{path}?X-Goog-Signature=ab"

    def fetch(self) -> tuple[int, str]:
        """Run the program; return its exit status and its output."""
        program = start_script().decode().partition("<<'END'")[2].partition("\n")[2].partition("\nEND\n")[0]
        assert SERVER in program
        command = [sys.executable, "-I", "-S", "-E", "-", str(self.cidata), str(self.state), str(self.patience)]
        program = program.replace(SERVER, self.url)
        ended = subprocess.run(command, input=program, check=False, capture_output=True, text=True, timeout=240)
        return ended.returncode, ended.stderr

    def cidata_files(self) -> dict[str, bytes]:
        """Return the files of the cidata."""
        return {path.name: path.read_bytes() for path in self.cidata.iterdir()}


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Vm]:
    machine = Vm(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            machine.asked.append(path)
            name = path.removeprefix(METADATA)
            body = machine.attributes.get(name, "").encode() or machine.objects.get(path)
            if path == ADDRESS and machine.address:
                body = machine.address.encode()
            if body is None or (name != path and self.headers["Metadata-Flavor"] != "Google"):
                self.send_error(404 if body is None else 403)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if path in machine.cut else body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        machine.url = f"http://127.0.0.1:{server.server_port}"
        yield machine
        server.shutdown()
        thread.join()


def test_the_files_and_the_context_are_put_in_place(vm: Vm) -> None:
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed(FILES))
    vm.offer("goldsmith-context", "/b/contexts/1.tar", b"context")
    assert vm.fetch() == (0, "")
    assert vm.cidata_files() == {**FILES, "context.tar": b"context"}
    assert (vm.cidata / "context.tar").resolve().parent == vm.kept
    modes = {path.stat().st_mode & 0o777 for path in (*vm.cidata.iterdir(), *vm.kept.iterdir())}
    assert modes == {0o600}
    folders = (vm.cidata, vm.state, vm.kept, vm.state / "files")
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_without_a_context_there_is_none(vm: Vm) -> None:
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed(FILES))
    assert vm.fetch() == (0, "")
    assert vm.cidata_files() == FILES
    assert not vm.kept.exists()


def test_after_a_reboot_the_context_is_still_there(vm: Vm) -> None:
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed(FILES))
    vm.offer("goldsmith-context", "/b/contexts/1.tar", b"context")
    assert vm.fetch() == (0, "")
    for path in vm.cidata.iterdir():
        path.unlink()
    vm.cidata.rmdir()
    assert vm.fetch() == (0, "")
    assert vm.cidata_files() == {**FILES, "context.tar": b"context"}
    assert vm.asked.count("/b/contexts/1.tar") == 1


def test_a_reboot_after_the_urls_have_ended_goes_on_with_what_was_kept(vm: Vm) -> None:
    """A signed URL is valid for 12 hours, and the metadata do not change."""
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed(FILES))
    vm.offer("goldsmith-context", "/b/contexts/1.tar", b"context")
    assert vm.fetch() == (0, "")
    shutil.rmtree(vm.cidata)  # memory
    vm.objects.clear()
    assert vm.fetch() == (0, "")
    assert vm.cidata_files() == {**FILES, "context.tar": b"context"}


def test_the_next_attempt_s_files_are_its_own(vm: Vm) -> None:
    """Its disk is that of the earlier VM, whose key is not valid any more."""
    vm.offer("goldsmith-cidata", "/b/cidata/a1-vm.tar", packed(FILES))
    assert vm.fetch() == (0, "")
    vm.offer("goldsmith-cidata", "/b/cidata/a2-vm.tar", packed({**FILES, "job.json": b"{2}"}))
    assert vm.fetch() == (0, "")
    assert vm.cidata_files()["job.json"] == b"{2}"
    assert len(list((vm.state / "files").iterdir())) == 1


def test_how_long_a_silence_the_build_allows_is_in_the_metadata(vm: Vm) -> None:
    vm.attributes["goldsmith-patience"] = "45"
    assert vm.fetch()[0] == 1
    assert vm.patience.read_text() == "45"


@pytest.mark.parametrize(
    ("address", "remedy"),
    [("", "--enable-private-ip-google-access), or write build.external_ip: true"), ("203.0.113.7", "firewall rules")],
)
def test_a_storage_that_is_not_reached_is_told_with_the_remedy(vm: Vm, address: str, remedy: str) -> None:
    vm.address = address
    with socket.create_server(("127.0.0.1", 0), backlog=0) as closed:
        port = closed.getsockname()[1]
    vm.attributes["goldsmith-cidata"] = f"http://127.0.0.1:{port}/b/cidata/vm.tar"
    status, said = vm.fetch()
    assert (status, said.count("\n")) == (1, 1)
    assert "Connection refused" in said
    assert remedy in said
    assert ("Private Google Access" in said) is (not address)


def test_a_storage_that_never_answers_is_given_up(vm: Vm) -> None:
    """It has sixteen addresses, which would be tried one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        vm.attributes["goldsmith-cidata"] = f"http://127.0.0.1:{mute.getsockname()[1]}/b/cidata/vm.tar"
        status, said = vm.fetch()
    assert status == 1
    assert "does not answer" in said
    assert "Private Google Access" in said


def test_a_context_that_an_image_has_brought_is_not_taken_for_ours(vm: Vm) -> None:
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed(FILES))
    vm.offer("goldsmith-context", "/b/contexts/1.tar", b"theirs")
    assert vm.fetch() == (0, "")
    vm.offer("goldsmith-context", "/b/contexts/2.tar", b"ours")
    assert vm.fetch() == (0, "")
    assert vm.cidata_files()["context.tar"] == b"ours"
    assert len(list(vm.kept.iterdir())) == 1


def test_nothing_in_the_metadata_is_said(vm: Vm) -> None:
    status, said = vm.fetch()
    assert (status, said) == (
        1,
        "there is neither a disk labelled cidata nor the metadata attribute goldsmith-cidata\n",
    )


@pytest.mark.parametrize("path", ["/b/cidata/vm.tar", "/b/contexts/1.tar"])
def test_what_is_cut_off_on_its_way_is_fetched_again(vm: Vm, path: str) -> None:
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed(FILES))
    vm.offer("goldsmith-context", "/b/contexts/1.tar", bytes(3 << 20))
    vm.cut.add(path)
    status, said = vm.fetch()
    assert status == 1
    assert said.count("\n") == 1
    assert "cut off" in said or "IncompleteRead" in said
    assert not vm.cidata.exists()
    vm.cut.clear()
    assert vm.fetch() == (0, "")
    assert vm.cidata_files() == {**FILES, "context.tar": bytes(3 << 20)}


def test_a_url_that_leads_nowhere_is_said_in_one_line(vm: Vm) -> None:
    vm.attributes["goldsmith-cidata"] = f"{vm.url}/b/gone"
    assert vm.fetch() == (1, "HTTPError: HTTP Error 404: Not Found\n")
    vm.attributes["goldsmith-cidata"] = "what is this"
    assert vm.fetch() == (1, "ValueError: unknown url type: 'what is this'\n")


def test_no_member_is_written_elsewhere(vm: Vm) -> None:
    vm.offer("goldsmith-cidata", "/b/cidata/vm.tar", packed({"../outside": b"x", "/abs": b"y"}))
    assert vm.fetch() == (0, "")
    assert vm.cidata_files() == {"outside": b"x", "abs": b"y"}
    assert not (vm.folder / "outside").exists()
