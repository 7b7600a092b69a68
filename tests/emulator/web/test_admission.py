"""Web pages in a browser on this machine get nothing of the emulator, whatever they ask and under whatever name."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask

from emulator.cloud.functions import command
from emulator.compute.endpoint import ComputeEndpoint
from emulator.storage.endpoint import StorageEndpoint
from emulator.web.http_server import LOOPBACK, HttpServer
from emulator.web.identity import CERTIFICATES_PATH, Identity
from emulator.web.processes import Processes, free_port

FUNCTION = """\
import functions_framework
from pathlib import Path

@functions_framework.http
def dashboard(request):
    Path(__file__).with_name("called").write_text(request.host)
    return "builds"
"""

PAGES = {
    "another origin's": {"Origin": "https://evil.example"},
    "one without an origin's": {"Origin": "null"},
    "one of another port's": {"Origin": "http://127.0.0.1:1"},
    "an image of another site's": {"Sec-Fetch-Site": "cross-site"},
    "a name that leads here": {"Host": "evil.example"},
    "a name that leads here, with the port": {"Host": "evil.example:{port}"},
    "a name that leads here, of its own origin": {
        "Host": "evil.example:{port}",
        "Origin": "http://evil.example:{port}",
        "Sec-Fetch-Site": "same-origin",
    },
    "a name that begins as ours": {"Host": "127.0.0.1.evil.example:{port}"},
    "a name that ends as Google's": {"Host": "evilgoogleapis.com:{port}"},
    "another server's port": {"Host": "127.0.0.1:1"},
    "no name": {"Host": ""},
}
PROGRAMS = {
    "an address": {"Host": "127.0.0.1:{port}"},
    "a name": {"Host": "LOCALHOST:{port}"},
    "Google's name": {"Host": "storage.googleapis.com"},
    "an own page": {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
    "an address typed in": {"Sec-Fetch-Site": "none"},
}


@dataclass(frozen=True)
class Served:
    """A URL of everything that the emulator serves, and the file that the function makes when it is called."""

    urls: dict[str, str]
    called: Path


def answer(url: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, str | None]:
    """Send a request; return the status, and which pages may read the answer."""
    port = url.rsplit(":", 1)[1].partition("/")[0]
    filled = {name: value.format(port=port) for name, value in headers.items()}
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain", **filled})
    try:
        with urllib.request.urlopen(request) as answered:
            return answered.status, answered.headers.get("Access-Control-Allow-Origin")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Access-Control-Allow-Origin")


def buckets(served: Served) -> list[str]:
    with urllib.request.urlopen(served.urls["storage"]) as answered:
        return [each["name"] for each in json.load(answered).get("items", [])]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("endpoints")
    identity = Identity(folder / "identity")
    tokens = Flask("tokens")
    tokens.register_blueprint(identity.blueprint())
    source = folder / "function" / "main.py"
    source.parent.mkdir()
    source.write_text(FUNCTION)
    with ExitStack() as opened:
        storage = opened.enter_context(StorageEndpoint(folder / "storage", identity=identity))
        compute = opened.enter_context(
            ComputeEndpoint(folder, project="p", identity=identity, storage=lambda uri: BytesIO(), publish="nowhere:1")
        )
        url = f"http://{LOOPBACK}:{free_port()}"
        processes = opened.enter_context(Processes())
        processes.start("a function", command("dashboard", source, url), folder / "log").wait_until_ready(url)
        called = source.with_name("called")
        called.unlink()
        urls = {
            "storage": f"{storage.url}/storage/v1/b?project=p",
            "compute": f"{compute.url}/compute/v1/projects/p/global/images",
            "identity": opened.enter_context(HttpServer(tokens)).url + CERTIFICATES_PATH,
            "function": f"{url}/",
        }
        yield Served(urls, called)


@pytest.mark.parametrize("endpoint", ["storage", "compute", "identity", "function"])
@pytest.mark.parametrize("page", PAGES)
def test_page_is_refused_before_anything_is_done(served: Served, endpoint: str, page: str) -> None:
    served.called.unlink(missing_ok=True)
    assert answer(served.urls[endpoint], PAGES[page], b'{"name": "of-a-page"}') == (403, None)
    assert answer(served.urls[endpoint], PAGES[page]) == (403, None)
    assert not served.called.exists()
    assert buckets(served) == []


@pytest.mark.parametrize("endpoint", ["storage", "identity", "function"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_is_answered(served: Served, endpoint: str, program: str) -> None:
    assert answer(served.urls[endpoint], PROGRAMS[program]) == (200, None)


def test_one_of_another_user_finds_nothing_to_read(tmp_path: Path, identity: Identity) -> None:
    before = os.umask(0o022)
    try:
        with StorageEndpoint(tmp_path / "storage", identity=identity):
            assert (tmp_path / "storage").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
