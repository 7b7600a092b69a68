"""The programs that people type: gsutil, over TLS, and `gcloud storage`. Each call takes about a second."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulator.storage.endpoint import StorageEndpoint

B = "gs://first-bucket"


@dataclass
class Terminal:
    """Runs programs as a person would who has set what the emulator says."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=240)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # both programs are wrappers around others
                raise
        assert process.returncode == 0, f"{command}: {output}\n{errors}"
        assert "WARNING" not in errors
        return output

    def write(self, path: str, content: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()


@contextmanager
def trap(caught: list[bytes]) -> Iterator[str]:
    """Stand in as the proxy to everything that is not loopback; it notes what is asked for and serves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if (asked := connection.recv(4096)) == b"stop":
                        return
                    caught.append(asked)

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
        with socket.create_connection((host, port)) as connection:
            connection.sendall(b"stop")
        thread.join()


@pytest.fixture
def terminal(tmp_path: Path, storage: StorageEndpoint) -> Iterator[Terminal]:
    caught: list[bytes] = []
    folder = tmp_path / "folder"
    folder.mkdir()
    person = tmp_path / "person"  # whose own configuration is not looked at: it would lead elsewhere
    person.mkdir()
    (person / ".boto").write_text("[Credentials]\ngs_host = storage.example\ngs_json_host = storage.example\n")
    with trap(caught) as proxy:
        through = dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], proxy)
        loopback = dict.fromkeys(["no_proxy", "NO_PROXY"], "127.0.0.1")
        variables = storage.client_environment(tmp_path / "home", project="goldsmith-emulator")
        yield Terminal(folder, {"PATH": os.environ["PATH"], "HOME": str(person), **through, **loopback, **variables})
    assert caught == []
    assert [path for path in person.rglob("*") if path.is_file()] == [person / ".boto"]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_gsutil(terminal: Terminal, storage: StorageEndpoint, finalized: list[dict[str, Any]]) -> None:
    big = noise(30 << 20)  # more than 8 MiB, so that it goes by a resumable upload
    terminal.write("spec.yaml", b"name: hello\n")
    terminal.write("big.bin", big)
    terminal.write("tree/a.txt", b"a")
    terminal.write("tree/below/b c.txt", b"b")

    terminal.run("gsutil", "cp", "spec.yaml", f"{B}/specs/")
    assert terminal.run("gsutil", "cat", f"{B}/specs/spec.yaml") == "name: hello\n"
    terminal.run("gsutil", "cp", "big.bin", f"{B}/big.bin")
    terminal.run("gsutil", "cp", f"{B}/big.bin", "back.bin")
    assert terminal.read("back.bin") == big
    assert f"{len(big)}  " in terminal.run("gsutil", "ls", "-l", f"{B}/big.bin")
    assert "Generation:" in terminal.run("gsutil", "stat", f"{B}/big.bin")
    terminal.run("gsutil", "mv", f"{B}/specs/spec.yaml", f"{B}/ä ö/../ü.yaml")
    terminal.run("gsutil", "cp", "-r", "tree", f"{B}/")
    names = [f"{B}/big.bin", f"{B}/tree/a.txt", f"{B}/tree/below/b c.txt", f"{B}/ä ö/../ü.yaml"]
    assert terminal.run("gsutil", "ls", f"{B}/**").splitlines() == names
    terminal.run("gsutil", "rsync", "-r", f"{B}/tree", "tree")
    terminal.run("gsutil", "rm", "-r", f"{B}/tree")
    assert terminal.run("gsutil", "ls", f"{B}/**").splitlines() == [names[0], names[3]]

    storage.close()
    assert [one["name"] for one in finalized[:3]] == ["specs/spec.yaml", "big.bin", "ä ö/../ü.yaml"]
    assert finalized[1]["size"] == str(len(big))
    assert finalized[1]["mediaLink"].startswith(storage.url)


def test_gsutil_makes_and_deletes_buckets(terminal: Terminal) -> None:
    terminal.run("gsutil", "mb", "gs://second-bucket")
    assert terminal.run("gsutil", "ls").splitlines() == ["gs://first-bucket/", "gs://second-bucket/"]
    terminal.run("gsutil", "rb", "gs://second-bucket")
    assert terminal.run("gsutil", "ls").splitlines() == ["gs://first-bucket/"]


def test_gcloud_storage(terminal: Terminal) -> None:
    big = noise(30 << 20)
    terminal.write("spec.yaml", b"name: hello\n")
    terminal.write("big.bin", big)
    terminal.write("tree/a.txt", b"a")
    terminal.write("tree/below/b c.txt", b"b")
    storage = ("gcloud", "storage")

    terminal.run(*storage, "cp", "spec.yaml", f"{B}/specs/")
    assert terminal.run(*storage, "cat", f"{B}/specs/spec.yaml") == "name: hello\n"
    terminal.run(*storage, "cp", "big.bin", f"{B}/big.bin")
    terminal.run(*storage, "cp", f"{B}/big.bin", "back.bin")
    assert terminal.read("back.bin") == big
    terminal.run(*storage, "objects", "update", f"{B}/big.bin", "--custom-metadata=k=v")
    described = terminal.run(*storage, "objects", "describe", f"{B}/big.bin")
    assert f"size: {len(big)}" in described
    assert "metageneration: 2" in described
    terminal.run(*storage, "cp", "-r", "tree", f"{B}/")
    terminal.run(*storage, "mv", f"{B}/specs/spec.yaml", f"{B}/ü.yaml")
    names = [f"{B}/big.bin", f"{B}/tree/a.txt", f"{B}/tree/below/b c.txt", f"{B}/ü.yaml"]
    assert terminal.run(*storage, "ls", f"{B}/**").splitlines() == names
    terminal.run(*storage, "rm", f"{B}/ü.yaml")
    terminal.run(*storage, "buckets", "create", "gs://second-bucket", "--location=us-central1")
    terminal.run(*storage, "rsync", "-r", "tree", "gs://second-bucket/x")
    assert terminal.run(*storage, "ls", "gs://second-bucket/x/").splitlines() == [
        "gs://second-bucket/x/a.txt",
        "gs://second-bucket/x/below/",
    ]
    terminal.run(*storage, "rm", "-r", "gs://second-bucket")
    assert terminal.run(*storage, "ls").splitlines() == ["gs://first-bucket/"]


def test_both_survive_a_bad_connection(terminal: Terminal, storage: StorageEndpoint) -> None:
    big = noise(30 << 20)
    terminal.write("big.bin", big)
    for command in (("gsutil",), ("gcloud", "storage")):
        storage.faults.answer(503, matching="^POST ")
        storage.faults.answer(429, matching="^PUT ")
        storage.faults.break_connection(matching="^PUT ", after_bytes=10 << 20)
        terminal.run(*command, "cp", "big.bin", f"{B}/{command[0]}")
        storage.faults.answer(503, matching="^GET .*alt=media")
        terminal.run(*command, "cp", f"{B}/{command[0]}", "back.bin")
        assert terminal.read("back.bin") == big


def test_python_client_needs_only_the_environment(terminal: Terminal) -> None:
    program = """
from google.cloud import storage
blob = storage.Client().bucket("first-bucket").blob("x")
blob.upload_from_string("hello", if_generation_match=0)
print(blob.download_as_text())
"""
    assert terminal.run(sys.executable, "-c", program) == "hello\n"
