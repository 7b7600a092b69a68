"""The application: who gets pages and who JSON, what all answers have, and who is let in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from shared.build.build import State
from shared.dashboard.app import make_app
from shared.dashboard.web.access import Access
from shared.dashboard.web.served import Served
from tests.world import values
from tests.world.world import World

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def world() -> World:
    made = World()
    made.run(values.plan())
    return made


@pytest.fixture
def client(world: World) -> FlaskClient:
    return make_app(Served(world.backend, "here")).test_client()


@pytest.fixture
def guarded(world: World) -> tuple[FlaskClient, Access]:
    access = Access(8123)
    return make_app(Served(world.backend, "here"), access).test_client(), access


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/html", "text/html; charset=utf-8"),
        (BROWSER["Accept"], "text/html; charset=utf-8"),
    ],
)
def test_browsers_get_pages_and_programs_json(client: FlaskClient, accept: str, kind: str) -> None:
    for path in ("/", "/builds", f"/builds/{values.BUILD_ID}", "/builds/none", "/none"):
        assert client.get(path, headers={"Accept": accept}).content_type == kind
        assert client.get(f"/api{path}", headers={"Accept": accept}).content_type == "application/json"


def test_what_a_page_shows_is_below_api_too(client: FlaskClient) -> None:
    [build] = client.get("/api/builds").get_json()["builds"]
    assert (build["id"], build["outcome"], build["done"], build["steps"]) == (values.BUILD_ID, "succeeded", 1, 1)
    page = client.get("/builds", headers=BROWSER).get_data(as_text=True)
    assert build["id"] in page
    assert "hello-20261120" in page


def test_pages_follow_each_other_in_a_browser(client: FlaskClient, world: World) -> None:
    for number in range(3):
        build = values.build(id=f"more-{number:012x}", created=values.NOON + 9000 + number, state=State.FINISHED)
        world.store.create(build, values.requested(build_id=build.id))
    page = client.get("/builds?limit=3", headers=BROWSER).get_data(as_text=True)
    assert 'href="/builds?limit=3&amp;before=more-000000000000"' in page
    assert client.get("/api/builds?limit=3").get_json()["next"] == "/api/builds?limit=3&before=more-000000000000"


def test_every_answer_has_the_policy_and_is_not_kept(client: FlaskClient) -> None:
    for path in ("/", "/api/builds", "/none", "/builds/none", "/static/style.css"):
        answer = client.get(path, headers=BROWSER)
        answer.close()
        assert "default-src 'none'; script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == ("no-cache" if path.startswith("/static") else "no-store")


def test_markup_of_a_spec_is_text(client: FlaskClient, world: World) -> None:
    hostile = "<script>alert(1)</script>"
    stored = world.store.load(values.BUILD_ID)
    world.store.save(replace(stored.build, reason=hostile, warnings=(hostile,)), stored.version)
    for path in ("/builds", f"/builds/{values.BUILD_ID}"):
        page = client.get(path, headers=BROWSER).get_data(as_text=True)
        assert hostile not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8123", "127.0.0.1", "127.0.0.1:80", "", "localhost:1"])
def test_a_name_that_only_leads_here_is_refused(guarded: tuple[FlaskClient, Access], host: str) -> None:
    client, access = guarded
    for path in ("/", f"/?token={access.token}", "/static/style.css"):
        answer = client.get(path, headers={"Host": host, "Authorization": f"Bearer {access.token}"})
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (421, False)


@pytest.mark.parametrize("host", ["127.0.0.1:8123", "localhost:8123", "[::1]:8123"])
def test_the_token_becomes_a_cookie(guarded: tuple[FlaskClient, Access], host: str) -> None:
    client, access = guarded
    base = f"http://{host}"
    answer = client.get(f"/builds?limit=3&token={access.token}", base_url=base)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/builds?limit=3")
    assert access.token not in answer.get_data(as_text=True) + str(answer.headers)
    assert client.get("/builds", base_url=base).status_code == 200


def test_no_token_or_a_wrong_one_opens_nothing(guarded: tuple[FlaskClient, Access]) -> None:
    client, access = guarded
    base = "http://127.0.0.1:8123"
    wrong = {"Authorization": "Bearer " + "x" * len(access.token), "Cookie": f"{access.cookie}={access.token}"}
    for headers in ({}, wrong, BROWSER):
        for path in ("/builds", "/?token=wrong", "/api/builds", f"/builds/{values.BUILD_ID}", "/retirement", "/none"):
            assert client.get(path, base_url=base, headers=headers).status_code == 401
    bearer = {"Authorization": f"Bearer {access.token}"}
    assert client.get("/builds", base_url=base, headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("//evil.example/x", "/x"),
        ("/%09/evil.example", "/%09/evil.example"),
        ("/%2f%09%2fevil.example", "/%09/evil.example"),
        ("/%5Cevil.example", "/%5Cevil.example"),
        ("/%0D%0ASet-Cookie:x", "/%0D%0ASet-Cookie%3Ax"),
    ],
)
def test_the_way_without_the_token_leads_nowhere_else(
    guarded: tuple[FlaskClient, Access], path: str, there: str
) -> None:
    client, access = guarded
    answer = client.get(f"{path}?token={access.token}", base_url="http://127.0.0.1:8123")
    assert (answer.status_code, answer.headers["Location"]) == (303, there)
