"""dashboard: builds as JSON, to be read and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import LedgerEntry, Outcome, State
from shared.build.events import to_json
from shared.build.resources import boot_commands
from tests.functions.deployed import Deployment
from tests.world import values
from tests.world.world import MASTER


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    for number in range(7):
        build = values.build(id=f"hello-{number:012x}", created=values.NOON + number)
        made.world.store.create(replace(build, id=f"hello-{number:012x}"), values.requested(build_id=build.id))
    return made


def get(deployment: Deployment, path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    with deployment.client("dashboard") as client:
        response = client.open(path, method=method)
    assert response.content_type == "application/json"
    return response.status_code, response.get_json() or {}


def ids(document: dict[str, object]) -> list[str]:
    builds = document["builds"]
    assert isinstance(builds, list)
    return [build["id"] for build in builds]


@pytest.mark.parametrize("path", ["/", "/builds", "/builds/"])
def test_all_builds_newest_first(deployment: Deployment, path: str) -> None:
    status, document = get(deployment, path)
    assert (status, document["next"]) == (200, None)
    assert ids(document) == [f"hello-{number:012x}" for number in reversed(range(7))]


def test_what_went_wrong_beside_the_outcome_is_in_the_list(deployment: Deployment) -> None:
    store = deployment.world.store
    stored = store.load("hello-000000000003")
    store.save(replace(stored.build, warnings=("old-1 is not deprecated",)), stored.version)
    _, document = get(deployment, "/")
    builds = document["builds"]
    assert isinstance(builds, list)
    assert [build["warnings"] for build in builds if build["warnings"]] == [["old-1 is not deprecated"]]


def test_pages_follow_each_other_to_the_end(deployment: Deployment) -> None:
    address, found = "/builds?limit=3", []
    for pages in (1, 2, 3):
        status, document = get(deployment, address)
        assert status == 200
        found += ids(document)
        address = str(document["next"])
        assert (document["next"] is None) == (pages == 3)
    assert found == [f"hello-{number:012x}" for number in reversed(range(7))]


def test_one_build_is_shown_whole(deployment: Deployment) -> None:
    status, document = get(deployment, "/builds/hello-000000000003")
    assert (status, document) == (200, to_json(deployment.world.build("hello-000000000003")))


def test_a_queued_build_has_its_place(deployment: Deployment) -> None:
    store = deployment.world.store
    waiting = values.build(id="waiting-0123456789", name="waiting", state=State.QUEUED, created=values.NOON + 99)
    assert waiting.plan is not None
    image = replace(waiting.plan.image, name="another")
    store.create(replace(waiting, plan=replace(waiting.plan, image=image)), values.requested(build_id=waiting.id))
    wait = {"place": 1, "running": 7, "maker": "", "of_family": 0}
    _status, document = get(deployment, "/builds?limit=2")
    builds = document["builds"]
    assert isinstance(builds, list)
    first, second = builds
    assert (first["wait"], "wait" in second) == (wait, False)
    assert get(deployment, f"/builds/{waiting.id}")[1]["wait"] == wait


def test_a_disk_that_is_kept_is_shown_with_how_to_boot_it(deployment: Deployment) -> None:
    store, build_id = deployment.world.store, "hello-000000000006"
    stored = store.load(build_id)
    disk = LedgerEntry("disk", f"gs-{build_id}-a1-boot", "my-project", "us-central1-a", keep=True)
    held = replace(stored.build, state=State.HELD, outcome=Outcome.FAILED, ledger=(disk,), disk_until=values.NOON)
    store.save(held, stored.version)
    kept = get(deployment, f"/builds/{build_id}")[1]["kept_disk"]
    assert isinstance(kept, dict)
    assert (kept["name"], kept["zone"], kept["until"]) == (disk.name, "us-central1-a", values.NOON)
    assert kept["boot"] == list(boot_commands(held))
    listed = get(deployment, "/builds?limit=2")[1]["builds"]
    assert isinstance(listed, list)
    assert [each.get("kept_disk") for each in listed] == [kept, None]


def test_damaged_builds_are_listed_in_their_place(deployment: Deployment) -> None:
    deployment.world.store.damage("hello-000000000004", "{")
    status, document = get(deployment, "/builds?limit=3")
    assert (status, ids(document)) == (200, [f"hello-{number:012x}" for number in (6, 5, 4)])
    assert isinstance(document["builds"], list)
    damaged = document["builds"][-1]
    assert (damaged["state"], damaged["outcome"]) == ("damaged", None)
    assert "the document of build hello-000000000004 is damaged" in damaged["reason"]
    assert ids(get(deployment, str(document["next"]))[1]) == [f"hello-{number:012x}" for number in (3, 2, 1)]
    status, document = get(deployment, "/builds/hello-000000000004")
    assert (status, document) == (500, {"error": damaged["reason"]})


@pytest.mark.parametrize("path", ["/", "/builds/hello-000000000003"])
def test_no_key_is_shown(deployment: Deployment, path: str) -> None:
    with deployment.client("dashboard") as client:
        text = client.get(path).get_data(as_text=True)
    key = deployment.world.keys.of_machine("hello-000000000003", 1, "build")
    assert MASTER.hex() not in text
    assert key not in text


@pytest.mark.parametrize("path", ["/builds/none", "/builds/a/b", "/other", "/builds?before=none"])
def test_what_is_not_there(deployment: Deployment, path: str) -> None:
    status, document = get(deployment, path)
    assert status == 404
    assert document["error"]


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "", "1e3"])
def test_limits_that_are_none(deployment: Deployment, limit: str) -> None:
    status, document = get(deployment, f"/builds?limit={limit}")
    assert status == 400
    assert "write 1 to 500" in str(document["error"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_is_only_to_be_read(deployment: Deployment, method: str) -> None:
    with deployment.client("dashboard") as client:
        response = client.open("/builds", method=method)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
