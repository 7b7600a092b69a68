"""The HTTP that a guest can reach, asked over its real socket: right requests, wrong ones, and hostile ones."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import GoldsmithError, LineFull, StoreError
from shared.local.bus import BYTES_WAITING, REPORTS_WAITING, LocalBus
from shared.local.database import Database
from shared.machines.metadata_server import (
    BODY_LIMIT,
    CONNECTIONS,
    MESSAGE_COST,
    MOST_MESSAGES,
    PUBLISHED_A_SECOND,
    PUBLISHED_AT_ONCE,
    MetadataServer,
    PublishAllowance,
    PublishError,
    machine_routes,
    read_publish_request,
)
from shared.ports import Message

PUBLISH = "/v1/projects/local/topics/build-reports:publish"


class Desk:
    """A server, what was published to it, and a way to break its bus."""

    def __init__(
        self, allowance: PublishAllowance | None = None, bus: LocalBus | None = None, build_id: str = "b-1"
    ) -> None:
        self.messages: list[Message] = []
        self.fault: GoldsmithError | None = None
        publish = self._publish if bus is None else bus.publish
        self.server = MetadataServer("test", machine_routes(publish, build_id, allowance))

    def _publish(self, message: Message) -> None:
        if self.fault is not None:
            raise self.fault
        self.messages.append(message)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect("\0" + self.server.socket_name)  # waits where the line is full; with a time-out it fails
        except OSError:
            client.close()
            raise
        client.settimeout(20)
        return client

    def send(self, data: bytes) -> bytes:
        """Send bytes, say that no more follow, give all that comes back."""
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def post(self, body: bytes, path: str = PUBLISH) -> tuple[int, dict[str, object]]:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = self.send(head.encode() + body)
        return status(answer), json.loads(answer.partition(b"\r\n\r\n")[2])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def envelope(*messages: Mapping[str, object]) -> bytes:
    return json.dumps({"messages": messages}).encode()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    with desk.server:
        yield desk


def test_messages_are_published_in_order_and_in_the_line_of_their_build(desk: Desk) -> None:
    first = {"data": encoded(b"one"), "attributes": {"kind": "started"}, "orderingKey": "b-2"}
    code, answer = desk.post(envelope(first, {"data": encoded(b"two")}))
    assert code == 200
    assert isinstance(answer["messageIds"], list)
    assert len(answer["messageIds"]) == 2
    assert desk.messages == [
        Message("build-reports", b"one", {"kind": "started"}, "b-1"),
        Message("build-reports", b"two", {}, "b-1"),
    ]


def test_any_project_but_only_one_topic(desk: Desk) -> None:
    body = envelope({"data": encoded(b"x")})
    assert desk.post(body, PUBLISH.replace("local", "my-project"))[0] == 200
    assert desk.post(body, PUBLISH.replace("build-reports", "build-requests"))[0] == 403
    assert desk.post(body, "/v1/projects/local/topics/build-reports:delete")[0] == 404
    assert len(desk.messages) == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [1]}', "messages[0]"),
        (b'{"messages": [{"data": "!"}]}', "messages[0].data"),
        (b'{"messages": [{"data": 1}]}', "messages[0]"),
        (b'{"messages": [{"data": "eA==", "attributes": {"a": 1}}]}', "messages[0].attributes"),
        (b'{"messages": [{"data": "eA==", "topic": "x"}]}', "messages[0]"),
        (b'{"messages": [{}]}', "messages[0]"),
    ],
)
def test_wrong_body_is_400_and_says_where(desk: Desk, body: bytes, complaint: str) -> None:
    code, answer = desk.post(body)
    assert code == 400
    error = answer["error"]
    assert isinstance(error, dict)
    assert complaint in error["message"]
    assert desk.messages == []


def test_bus_that_cannot_take_a_message_is_503(desk: Desk) -> None:
    desk.fault = StoreError("the disk is full")
    assert desk.post(envelope({"data": encoded(b"x")}))[0] == 503
    desk.fault = None
    assert desk.post(envelope({"data": encoded(b"x")}))[0] == 200


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\x01\x02 rubbish\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (f"POST {PUBLISH} HTTP/1.1\r\n\r\n".encode(), 411),
        (f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: -1\r\n\r\n".encode(), 411),
        (f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n".encode(), 411),
        (f"POST {PUBLISH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(), 411),
        (f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n".encode(), 413),
        (f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n".encode(), 413),
        (b"PUT /v1/projects/p/topics/build-reports:publish HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /elsewhere HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_garbage_gets_a_status_and_no_log_line(
    desk: Desk, data: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert status(desk.send(data)) == code
    assert caplog.records == []
    assert desk.post(envelope({"data": encoded(b"x")}))[0] == 200


def test_metadata_is_absent_in_google_s_way(desk: Desk) -> None:
    answer = desk.send(b"GET /computeMetadata/v1/instance/id HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert status(answer) == 404
    assert b"Metadata-Flavor: Google" in answer


def test_one_connection_carries_many_requests(desk: Desk) -> None:
    body = envelope({"data": encoded(b"x")})
    request = f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    answer = desk.send(request * 3)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert len(desk.messages) == 3


def test_body_cut_short_publishes_nothing(desk: Desk) -> None:
    body = envelope({"data": encoded(b"x")})
    desk.send(f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: {len(body) + 1}\r\n\r\n".encode() + body)
    assert desk.messages == []


class TestAllowance:
    """What one guest may publish: the limits, by a clock that stands still until it is told."""

    @pytest.fixture
    def clock(self) -> list[float]:
        return [1000.0]

    @pytest.fixture
    def limited(self, clock: list[float]) -> Iterator[Desk]:
        limited = Desk(PublishAllowance(lambda: clock[0]))
        with limited.server:
            yield limited

    def test_is_used_up_by_bytes_and_fills_again(self, limited: Desk, clock: list[float]) -> None:
        body = envelope({"data": encoded(b"x" * 750_000)})
        taken = PUBLISHED_AT_ONCE // (len(body) + MESSAGE_COST)
        assert [limited.post(body)[0] for _ in range(taken + 2)] == [200] * taken + [429] * 2
        clock[0] += (len(body) + MESSAGE_COST) / PUBLISHED_A_SECOND
        assert [limited.post(body)[0] for _ in range(2)] == [200, 429]
        clock[0] += 1e6
        assert [limited.post(body)[0] for _ in range(taken + 1)] == [200] * taken + [429]
        assert len(limited.messages) == 2 * taken + 1

    def test_is_used_up_by_messages_however_small(self, limited: Desk) -> None:
        body = envelope(*[{"data": "eA=="}] * MOST_MESSAGES)
        statuses = [limited.post(body)[0] for _ in range(10)]
        assert statuses == [200] * statuses.count(200) + [429] * statuses.count(429)
        assert len(limited.messages) <= PUBLISHED_AT_ONCE / MESSAGE_COST

    def test_is_used_up_by_garbage(self, limited: Desk) -> None:
        statuses = [limited.post(b"[" * 1_000_000)[0] for _ in range(6)]
        assert statuses == [400] * 4 + [429] * 2

    def test_refusal_says_when_to_come_again(self, limited: Desk, clock: list[float]) -> None:
        body = envelope({"data": encoded(b"x" * 1_500_000)})
        request = f"POST {PUBLISH} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        for _ in range(2):
            assert status(limited.send(request)) == 200
        answer = limited.send(request)
        assert status(answer) == 429
        [seconds] = re.findall(rb"Retry-After: ([0-9]+)\r\n", answer)
        clock[0] += float(seconds)
        assert status(limited.send(request)) == 200

    def test_the_largest_request_is_within_it(self) -> None:
        assert BODY_LIMIT + MOST_MESSAGES * MESSAGE_COST <= PUBLISHED_AT_ONCE


def test_build_whose_line_is_full_is_429_and_no_line_of_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.fault = LineFull("1000 reports wait")
    with caplog.at_level(logging.INFO):
        assert desk.post(envelope({"data": encoded(b"x")}))[0] == 429
    assert caplog.records == []


def test_a_hostile_guest_fills_no_disk_and_keeps_no_other_build_waiting(tmp_path: Path) -> None:
    """Large bodies, bodies that never end and many connections, all at once, against the real bus."""
    with Database(tmp_path / "state.db") as database:
        bus = LocalBus(database)
        hostile, honest = (Desk(bus=bus, build_id=f"{name}-1") for name in ("hostile", "honest"))
        with hostile.server, honest.server, ExitStack() as clients:
            body = envelope({"data": encoded(b"x" * 1_000_000)}, *[{"data": "eA=="}] * 400)
            assert hostile.post(body)[0] == 200
            slow = [clients.enter_context(hostile.connect()) for _ in range(CONNECTIONS)]
            for client in slow:
                client.sendall(f"POST {PUBLISH} HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{{".encode())
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _number: hostile.post(body)[0], range(40)))
            assert 429 in answers
            assert set(answers) <= {200, 429}
            assert honest.post(envelope({"data": encoded(b"said")}))[0] == 200
        heard = bus.receive(build_id="honest-1", seconds=0)
        assert heard is not None
        assert heard.message.data == b"said"
        assert bus.pending("hostile-1") <= REPORTS_WAITING
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 * BYTES_WAITING


def test_idle_connections_give_way_to_new_ones(desk: Desk) -> None:
    with ExitStack() as clients:
        idle = [clients.enter_context(desk.connect()) for _ in range(CONNECTIONS)]
        began = time.monotonic()
        assert desk.post(envelope({"data": encoded(b"x")}))[0] == 200
        assert idle[0].recv(1) == b""  # the oldest was hung up on
        assert time.monotonic() - began < 9  # after 10 s of silence it would have been anyway


def test_parallel_clients_each_get_their_answer(desk: Desk) -> None:
    statuses: list[int] = []

    def client(number: int) -> None:
        wrong = number % 2 == 1
        statuses.append(desk.post(b"{" if wrong else envelope({"data": encoded(b"%d" % number)}))[0])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 10 + [400] * 10
    assert sorted(int(message.data) for message in desk.messages) == list(range(0, 20, 2))


def test_close_leaves_no_socket() -> None:
    desk = Desk()
    with desk.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert status(client.recv(65536)) == 404
        desk.server.close()
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        desk.connect()


KEYS = st.sampled_from(["messages", "data", "attributes", "orderingKey", "x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda part: st.lists(part) | st.dictionaries(KEYS, part))


@settings(max_examples=200)
@given(DOCUMENTS)
def test_any_json_is_read_or_refused(document: object) -> None:
    try:
        messages = read_publish_request("t", json.dumps(document).encode())
    except PublishError:
        return
    assert messages
