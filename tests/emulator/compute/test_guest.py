"""What a guest finds at link-local addresses, asked over the sockets that QEMU connects it to."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from emulator.compute.google_apis import GoogleApis, Publish
from emulator.compute.machines import Instance
from emulator.compute.metadata import Metadata
from emulator.web.identity import Identity
from shared.errors import StoreError
from shared.machines.metadata_server import MetadataServer, Route
from shared.ports import Message

PROJECT = "goldsmith-emulator"
REPORTS = f"/v1/projects/{PROJECT}/topics/build-reports:publish"
BODY = json.dumps({"messages": [{"data": base64.b64encode(b"x").decode()}]})
DOCUMENT = {
    "id": "123",
    "name": "vm-1",
    "zone": "http://x/compute/v1/projects/p/zones/us-central1-a",
    "machineType": "http://x/compute/v1/projects/p/zones/us-central1-a/machineTypes/e2-small",
    "cpuPlatform": "?",
    "disks": [{"index": 0, "deviceName": "boot", "mode": "READ_WRITE"}],
    "networkInterfaces": [{"networkIP": "169.254.169.15", "network": "default"}],
    "scheduling": {"automaticRestart": True, "onHostMaintenance": "MIGRATE", "preemptible": False},
    "metadata": {"items": [{"key": "user-data", "value": "#cloud-config\n"}, {"key": "some-key", "value": "ü"}]},
    "serviceAccounts": [{"email": "vm@p.iam", "scopes": ["a", "b"]}],
    "tags": {"fingerprint": "x"},
}


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(f"projects/{PROJECT}/zones/us-central1-a/instances/vm-1", DOCUMENT, [], tmp_path, "direct")


@pytest.fixture
def metadata(identity: Identity, instance: Instance) -> Metadata:
    return Metadata(instance, identity)


def ask(routes: Sequence[Route], request: str, body: str = "", **headers: str) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers (names in lower case) and the body of the answer."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    with MetadataServer("test", routes) as server, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect("\0" + server.socket_name)
        client.sendall(f"{request} HTTP/1.0\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        response = HTTPResponse(client)
        response.begin()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()


def value(metadata: Metadata, path: str) -> str:
    status, headers, body = ask(metadata.routes(), f"GET /computeMetadata/v1/{path}", Metadata_Flavor="Google")
    assert (status, headers["metadata-flavor"]) == (200, "Google"), (path, status, body)
    return body


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("instance/name", "vm-1"),
        ("instance/id", "123"),
        ("instance/zone", "projects/100000000001/zones/us-central1-a"),
        ("instance/machine-type", "projects/100000000001/machineTypes/e2-small"),
        ("instance/hostname", f"vm-1.us-central1-a.c.{PROJECT}.internal"),
        ("instance/attributes/user-data", "#cloud-config\n"),
        ("instance/attributes/some-key", "ü"),
        ("instance/attributes/", "some-key\nuser-data\n"),
        ("instance/service-accounts/", "default/\nvm@p.iam/\n"),
        ("instance/service-accounts/default/email", "vm@p.iam"),
        ("instance/service-accounts/default/scopes", "a\nb\n"),
        ("project/project-id", PROJECT),
        ("project/numeric-project-id", "100000000001"),
        ("instance/name?alt=json", '"vm-1"'),
        ("instance/attributes/?recursive=True", '{"user-data": "#cloud-config\\n", "some-key": "\\u00fc"}'),
    ],
)
def test_value_is_found(metadata: Metadata, path: str, found: str) -> None:
    assert value(metadata, path) == found


def test_whole_tree_has_the_names_of_recursive_answers(metadata: Metadata) -> None:
    tree = json.loads(value(metadata, "?recursive=true&alt=json"))
    assert tree["instance"]["machineType"].endswith("e2-small")
    assert tree["instance"]["attributes"]["some-key"] == "ü"
    account = {"aliases": ["default"], "email": "vm@p.iam", "scopes": ["a", "b"]}
    assert tree["instance"]["serviceAccounts"] == {"default": account, "vm@p.iam": account}
    assert tree["project"]["numericProjectId"] == 100000000001


def test_request_without_the_header_learns_only_what_this_is(metadata: Metadata) -> None:
    for headers in ({}, {"Metadata_Flavor": "Other"}, {"Metadata_Flavor": "Google", "X_Forwarded_For": "1.2.3.4"}):
        assert ask(metadata.routes(), "GET /computeMetadata/v1/instance/name", **headers)[0] == 403
    status, headers, _ = ask(metadata.routes(), "GET /")
    assert (status, headers["metadata-flavor"]) == (200, "Google")


def test_what_is_not_there_is_not_found(metadata: Metadata) -> None:
    flavor = {"Metadata_Flavor": "Google"}
    for path in ("instance/attributes/none", "instance/name/x", "nothing"):
        assert ask(metadata.routes(), f"GET /computeMetadata/v1/{path}", **flavor)[0] == 404
    status, headers, _ = ask(metadata.routes(), "GET /computeMetadata/v1/instance", **flavor)
    assert (status, headers["location"]) == (301, "/computeMetadata/v1/instance/")
    attributes = "PUT /computeMetadata/v1/instance/guest-attributes/hostkeys/rsa"
    assert ask(metadata.routes(), attributes, **flavor)[0] == 403


def test_request_waits_for_a_change(metadata: Metadata, instance: Instance) -> None:
    path = "GET /computeMetadata/v1/instance/attributes/?recursive=true&wait_for_change=true"
    flavor = {"Metadata_Flavor": "Google"}
    _, headers, before = ask(metadata.routes(), f"{path}&timeout_sec=0", **flavor)
    new = {"items": [{"key": "some-key", "value": "new"}]}
    change = threading.Timer(0.2, lambda: instance.update(metadata=new))
    change.start()
    _, _, after = ask(metadata.routes(), path, **flavor)
    change.join()
    assert ("new" in before, after) == (False, '{"some-key": "new"}')
    assert ask(metadata.routes(), f"{path}&last_etag={headers['etag']}", **flavor)[2] == after


def test_tokens_are_the_service_accounts(metadata: Metadata, identity: Identity) -> None:
    answer = json.loads(value(metadata, "instance/service-accounts/default/token"))
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3599)
    assert identity.verify_access_token(answer["access_token"]) == "vm@p.iam"
    token = value(metadata, "instance/service-accounts/vm@p.iam/identity?audience=https://x&format=full")
    claims = identity.verify_id_token(token, "https://x")
    assert claims["email"] == "vm@p.iam"
    assert claims["google"]["compute_engine"]["instance_name"] == "vm-1"
    without = "GET /computeMetadata/v1/instance/service-accounts/default/identity"
    assert ask(metadata.routes(), without, Metadata_Flavor="Google")[0] == 400


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        data = json.dumps([self.command, self.path, self.headers["Host"], body]).encode()
        self.send_response(206)
        self.send_header("Content-Type", "text/x-echo")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Goog-Hash", "crc32c=x")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo() -> Iterator[str]:
    """A service that answers with what it was asked; gives its HOST:PORT."""
    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def apis(publish: Publish = print, storage: str = "") -> Sequence[Route]:
    return GoogleApis(publish, storage, PROJECT, {"given"}).routes()


def test_report_is_published_with_the_token_that_was_given() -> None:
    messages: list[Message] = []
    status, _, body = ask(apis(messages.append), f"POST {REPORTS}", BODY, Authorization="Bearer given")
    assert (status, len(json.loads(body)["messageIds"])) == (200, 1)
    assert messages == [Message("build-reports", b"x", {})]


@pytest.mark.parametrize(
    ("path", "token", "body", "status"),
    [
        (REPORTS, "", BODY, 401),
        (REPORTS, "Bearer another", BODY, 401),
        (REPORTS, "Basic given", BODY, 401),
        (REPORTS.replace("reports", "events"), "Bearer given", BODY, 403),
        (REPORTS.replace(PROJECT, "other"), "Bearer given", BODY, 403),
        (REPORTS, "Bearer given", "{}", 400),
        ("/v1/projects/p/topics", "Bearer given", BODY, 404),
    ],
)
def test_nothing_else_is_published(path: str, token: str, body: str, status: int) -> None:
    messages: list[Message] = []
    assert ask(apis(messages.append), f"POST {path}", body, Authorization=token)[0] in (status, 405)
    assert messages == []


def test_bus_in_trouble_is_told_as_a_fault_that_passes() -> None:
    def full(message: Message) -> None:
        raise StoreError("the disk is full")

    for publish in (full, "127.0.0.1:1"):  # a port without a listener
        assert ask(apis(publish), f"POST {REPORTS}", BODY, Authorization="Bearer given")[0] == 503


def test_a_guest_that_publishes_without_end_is_refused() -> None:
    messages: list[Message] = []
    routes = apis(messages.append)
    body = json.dumps({"messages": [{"data": base64.b64encode(b"x" * 1_200_000).decode()}]})
    statuses = [ask(routes, f"POST {REPORTS}", body, Authorization="Bearer given")[0] for _ in range(20)]
    assert statuses[:2] == [200, 200]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) == len(messages)
    other = ask(apis(messages.append), f"POST {REPORTS}", body, Authorization="Bearer given")
    assert other[0] == 200, "of another guest"


def test_report_is_passed_on_to_pubsub() -> None:
    with echo() as service:
        _, _, body = ask(apis(service), f"POST {REPORTS}", BODY, Authorization="Bearer given")
        assert json.loads(body) == ["POST", REPORTS, service, BODY]


def test_signed_url_is_passed_on_as_it_was_signed() -> None:
    target = "/bucket/folder/an%20object?X-Goog-Algorithm=G&X-Goog-Signature=ab%2F"
    with echo() as service:
        routes = apis(storage=f"http://{service}")
        status, headers, body = ask(routes, f"GET {target}", Host="169.254.169.253", Range="bytes=0-1")
        assert (status, headers["content-type"], headers["x-goog-hash"]) == (206, "text/x-echo", "crc32c=x")
        assert json.loads(body) == ["GET", target, "169.254.169.253", ""]
        assert ask(routes, "GET /bucket/object", Host="169.254.169.253")[0] == 403
