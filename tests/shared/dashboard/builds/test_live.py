"""Live views: what a stream tells, where it goes on, and how many there are at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.build.damage import Damaged
from shared.build.events import Event
from shared.dashboard.app import make_app
from shared.dashboard.web.desk import Desk
from shared.dashboard.web.served import Served
from shared.ports import PAGE
from tests.browser.scenes import RUNNING, running, tell, write_events
from tests.world import values
from tests.world.memory_store import MemoryStore
from tests.world.world import World

VM = f"gs-{RUNNING}-a1-vm"


@pytest.fixture
def world() -> World:
    made = World()
    tell(made.store, running(values.NOON))
    return made


@pytest.fixture
def served(world: World) -> Served:
    return Served(world.backend, "here", poll=0.01, list_poll=0.01, streams=2, stream_seconds=0.3)


@pytest.fixture
def client(served: Served) -> FlaskClient:
    return make_app(served).test_client()


def events(client: FlaskClient, path: str, last: str = "") -> list[tuple[str, str, Any]]:
    """Read a stream to its end."""
    headers = {"Last-Event-ID": last} if last else {}
    with client.get(path, headers=headers) as answer:
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
        return list(parsed(answer.get_data(as_text=True)))


def parsed(text: str) -> Iterator[tuple[str, str, Any]]:
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            yield fields["event"], fields["id"], json.loads(fields["data"])


def finish(world: World) -> None:
    tale = running(values.NOON)
    done = len(tale.events)
    list(write_events(world.store, tale.step_ends(1, 5).step(2, 3).completes().publishes().events[done:]))


def test_a_stream_tells_what_has_changed_and_its_reader_goes_on_from_there(client: FlaskClient, world: World) -> None:
    position = client.get(f"/api/builds/{RUNNING}").get_json()["position"]
    path = f"/api/live/builds/{RUNNING}"
    assert events(client, path, position) == []
    world.bucket.write(f"logs/{RUNNING}/{VM}.log", b"one\ntwo\nthree")
    [(kind, number, told)] = events(client, path, position)
    assert (kind, told["machine"], told["lines"]) == ("log", VM, [[["one", ""]], [["two", ""]]])
    assert events(client, path, number) == []
    finish(world)
    found = events(client, path, number)
    assert [kind for kind, _, _ in found] == ["build", "log", "end"]
    assert found[1][2]["lines"] == [[["three", ""]]]
    assert found[2][2] == {"state": "finished", "outcome": "succeeded", "ended": True}
    assert [kind for kind, _, _ in events(client, path, found[1][1])] == ["end"]


def test_a_stream_without_a_place_begins_at_the_first_event(client: FlaskClient) -> None:
    found = events(client, f"/api/live/builds/{RUNNING}")
    assert [kind for kind, _, _ in found] == ["build"]
    assert events(client, f"/api/live/builds/{RUNNING}", f"deleted {VM} 0")[0][0] == "build"


@pytest.mark.parametrize("last", ["x", "a b", "a b -1", "a b c", "a b 1 2", "a b 99999999999999"])
def test_an_id_of_another_stream_is_refused(client: FlaskClient, last: str) -> None:
    answer = client.get(f"/api/live/builds/{RUNNING}", headers={"Last-Event-ID": last})
    assert answer.status_code == 400


def test_the_list_tells_that_it_has_changed(client: FlaskClient, world: World) -> None:
    digest = client.get("/api/builds").get_json()["digest"]
    assert events(client, "/api/live/builds", digest) == []
    world.clock.time += 3600  # what time alone changes is no news
    assert events(client, "/api/live/builds", digest) == []
    finish(world)
    [(kind, number, _)] = events(client, "/api/live/builds", digest)
    assert (kind, number) == ("builds", client.get("/api/builds").get_json()["digest"])


def test_there_are_so_many_streams_at_once(served: Served) -> None:
    client = make_app(replace(served, stream_seconds=60.0)).test_client()
    path = f"/api/live/builds/{RUNNING}"
    held = [client.get(path) for _ in range(2)]
    assert [answer.status_code for answer in held] == [200, 200]
    refused = client.get(path)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "15")
    held[0].close()
    with client.get(path) as answer:
        assert answer.status_code == 200
    held[1].close()


def test_one_viewer_does_not_take_all_streams(served: Served) -> None:
    """Behind Cloud Run, whose last entry of the header alone is its own."""
    client = make_app(replace(served, stream_seconds=60.0, streams_each=1)).test_client()
    path, first = f"/api/live/builds/{RUNNING}", {"X-Forwarded-For": "6.6.6.6, 192.0.2.1"}
    with client.get(path, headers=first) as answer:
        assert answer.status_code == 200
        assert client.get(path, headers={"X-Forwarded-For": "7.7.7.7, 192.0.2.1"}).status_code == 503
        with client.get(path, headers={"X-Forwarded-For": "192.0.2.2"}) as other:
            assert other.status_code == 200
    with client.get(path, headers=first) as answer:
        assert answer.status_code == 200


def test_viewers_are_told_apart_by_the_address_that_is_proved(served: Served) -> None:
    desk = Desk(lambda headers: headers.get("x-test-mail", ""), lambda _: None)
    client = make_app(replace(served, stream_seconds=60.0, streams_each=1, desk=desk)).test_client()
    path = f"/api/live/builds/{RUNNING}"
    with client.get(path, headers={"X-Test-Mail": "ann@example.com"}) as answer:
        assert answer.status_code == 200
        for number in (1, 2):
            headers = {"X-Test-Mail": "ann@example.com", "X-Forwarded-For": f"192.0.2.{number}"}
            assert client.get(path, headers=headers).status_code == 503
        with client.get(path, headers={"X-Test-Mail": "bob@example.com"}) as other:
            assert other.status_code == 200


class CountedEvents(MemoryStore):
    """Counts the events that are read."""

    read = 0

    def events(
        self, build_id: str, *, kinds: Sequence[str] = (), after: str = "", limit: int = PAGE
    ) -> Sequence[Event | Damaged]:
        found = super().events(build_id, kinds=kinds, after=after, limit=limit)
        self.read += len(found)
        return found


def test_a_page_that_is_read_again_reads_the_new_events_alone(served: Served) -> None:
    counted, tale = CountedEvents(), running(values.NOON)
    tell(counted, tale)
    client = make_app(replace(served, backend=replace(served.backend, store=counted))).test_client()
    before = client.get(f"/api/builds/{RUNNING}").get_json()["events"]
    assert counted.read == len(before) > 2
    assert client.get(f"/api/builds/{RUNNING}").get_json()["events"] == before
    assert counted.read == len(before)
    list(write_events(counted, tale.step_ends(1, 5).step(2, 3).completes().publishes().events[len(before) :]))
    after = client.get(f"/api/builds/{RUNNING}").get_json()["events"]
    assert after[: len(before)] == before
    assert counted.read == len(after) > len(before)


def test_a_stream_ends_after_its_time(served: Served) -> None:
    client = make_app(replace(served, stream_seconds=0.05)).test_client()
    with client.get(f"/api/live/builds/{RUNNING}") as answer:
        assert answer.get_data(as_text=True).startswith("retry: 2000\n\n")


def test_a_stream_of_no_build(client: FlaskClient) -> None:
    assert client.get("/api/live/builds/none").status_code == 404


def test_a_line_that_has_not_ended_comes_with_the_next_piece(client: FlaskClient, world: World) -> None:
    world.bucket.write(f"logs/{RUNNING}/{VM}.log", b"whole\nhal")
    shown = client.get(f"/api/builds/{RUNNING}/log?start=0").get_json()
    assert (shown["lines"], shown["next"]) == ([[["whole", ""]]], 6)
    world.bucket.write(f"logs/{RUNNING}/{VM}.log", b"whole\nhalf\n")
    more = client.get(f"/api/builds/{RUNNING}/log?start=6").get_json()
    assert (more["lines"], more["start"], more["next"]) == ([[["half", ""]]], 6, 11)


@pytest.mark.slow
def test_the_end_of_a_long_console_is_shown_and_all_of_it_can_be_read(client: FlaskClient, world: World) -> None:
    lines = [f"line {number}" for number in range(40_000)]
    world.bucket.write(f"logs/{RUNNING}/{VM}.log", "".join(f"{line}\n" for line in lines).encode())
    end = client.get(f"/api/builds/{RUNNING}/log").get_json()
    assert end["lines"][-1] == [["line 39999", ""]]
    assert end["start"] > 0
    assert all(line[0][0] in lines for line in end["lines"]), "it begins with a whole line"
    read: list[str] = []
    start = 0
    while piece := client.get(f"/api/builds/{RUNNING}/log?start={start}").get_json():
        if not piece["lines"]:
            break
        read += [line[0][0] for line in piece["lines"]]
        start = piece["next"]
    assert read == lines
    whole = client.get(f"/api/builds/{RUNNING}/log.txt?machine={VM}")
    assert whole.get_data(as_text=True).splitlines() == lines
    assert whole.headers["Content-Disposition"] == f"attachment; filename={VM}.log"


@pytest.mark.parametrize(
    "query", ["machine=other", "start=-1", "start=x", "start=99999999999999", "machine=../../etc/passwd"]
)
def test_consoles_that_are_none(client: FlaskClient, query: str) -> None:
    assert client.get(f"/api/builds/{RUNNING}/log?{query}").status_code == 400
