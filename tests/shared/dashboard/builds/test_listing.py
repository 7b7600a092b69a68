"""Filters of the list: what they say, what is refused, and that the following page has them too."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.build.build import State
from shared.build_search import BuildFilter
from shared.dashboard.builds.listing import build_filter
from shared.errors import InputError
from tests.browser.scenes import RUNNING, fill_store
from tests.shared.dashboard.pages_of import Pages
from tests.world import values
from tests.world.world import World


@pytest.fixture
def pages() -> Pages:
    world = World()
    fill_store(world.store, values.NOON)
    return Pages(world)


def found(pages: Pages, query: str) -> list[str]:
    return [build["id"].rpartition("-")[0] for build in pages.json(f"/builds?{query}")["builds"]]


def test_filters_are_read() -> None:
    day = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    asked = {"since": "2026-11-20", "until": "1795262400", "text": " nginx ", "outcome": "failed", "state": ""}
    assert build_filter(asked) == BuildFilter(outcome="failed", since=day, until=1795262400.0, text="nginx")
    states = build_filter({"state": "active"}).states
    assert State.PROVISIONING in states
    assert not {State.QUEUED, State.HELD, State.FINISHED}.intersection(map(State, states))
    assert build_filter({}) == BuildFilter()


@pytest.mark.parametrize(
    "asked",
    [
        {"state": "pondering"},
        {"outcome": "good"},
        {"since": "yesterday"},
        {"until": "2026-13-01"},
        {"since": "-1"},
        {"text": "x" * 201},
    ],
)
def test_filters_that_are_none(asked: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(asked))):
        build_filter(asked)


def test_the_list_shows_what_is_looked_for(pages: Pages) -> None:
    assert found(pages, "outcome=failed") == ["docker", "hostile", "typo"]
    assert found(pages, "state=active") == [RUNNING.rpartition("-")[0]]
    assert found(pages, "text=UNKNOWN+KEY") == []
    assert found(pages, "text=Script") == ["hostile", "typo"]
    assert found(pages, "family=spot&outcome=succeeded") == ["spot"]
    assert found(pages, f"until={int(values.NOON) - 8000}&since={int(values.NOON) - 10_000}") == ["spot"]


def test_the_following_page_has_the_same_filters(pages: Pages) -> None:
    first = pages.json("/builds?outcome=failed&limit=2")
    assert first["next"].startswith("/api/builds?outcome=failed&limit=2&before=")
    following = pages.json(first["next"].removeprefix("/api"))
    assert ([build["name"] for build in following["builds"]], following["next"]) == (["typo"], None)
    page = pages.html("/builds?outcome=failed&limit=2")
    assert '<option value="failed" selected>' in page
    assert "No build is like that" in pages.html("/builds?text=nowhere")
