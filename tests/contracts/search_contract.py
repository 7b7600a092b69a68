"""What every Store must do when people look for builds; store_contract.py has all else, and the fixtures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Build, Outcome, State
from shared.build_search import BuildFilter
from shared.errors import NotFound
from shared.ports import Store
from tests.world import values


def _build(number: int, name: str, **changes: object) -> Build:
    build_id = f"{name}-{number:012x}"
    plan = values.plan(build_id=build_id, name=name)
    plan = replace(plan, image=replace(plan.image, name=f"{name}-image", family=f"{name}-family"))
    made = values.build(id=build_id, plan=plan, created=values.NOON + number, updated=values.NOON + number)
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of Build, by name


BUILDS = (
    _build(0, "nginx", state=State.FINISHED, outcome=Outcome.SUCCEEDED),
    _build(1, "nginx", state=State.FINISHED, outcome=Outcome.FAILED, reason="step Greet failed: 100%"),
    _build(2, "docker", state=State.FINISHED, outcome=Outcome.FAILED, reason="no quota"),
    _build(3, "docker", state=State.PROVISIONING),
    _build(4, "nginx", state=State.QUEUED),
    _build(5, "typo", state=State.FINISHED, outcome=Outcome.FAILED, plan=None, steps=(), reason="unknown key"),
)

FILTERS = {
    "all": BuildFilter(),
    "by outcome": BuildFilter(outcome="failed"),
    "by state": BuildFilter(states=("provisioning", "queued")),
    "by name": BuildFilter(name="nginx"),
    "by family": BuildFilter(family="docker-family"),
    "of a time": BuildFilter(since=values.NOON + 1, until=values.NOON + 4),
    "by text of the reason": BuildFilter(text="GREET"),
    "by text of the image": BuildFilter(text="docker-im"),
    "by text that is no pattern": BuildFilter(text="%"),
    "by all": BuildFilter(("finished",), "failed", "nginx", "nginx-family", values.NOON, values.NOON + 9, "step"),
    "by what there is not": BuildFilter(outcome="cancelled"),
}


class SearchContract:
    @pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
    def test_builds_are_found_by_what_they_are(self, store: Store, wanted: BuildFilter) -> None:
        for build in BUILDS:
            store.create(build, values.requested(build_id=build.id))
        expected = [build.id for build in reversed(BUILDS) if wanted.matches(build)]
        found: list[str] = []
        before = ""
        for _ in BUILDS:
            page = store.find_builds(wanted, limit=2, before=before)
            assert len(page.builds) <= 2
            found += [build.id for build in page.builds]
            before = page.after
            if not before:
                break
        assert (found, before) == (expected, "")

    def test_a_build_is_found_by_what_it_is_now(self, store: Store) -> None:
        build = BUILDS[3]
        store.create(build, values.requested(build_id=build.id))
        stored = store.load(build.id)
        ended = replace(stored.build, state=State.FINISHED, outcome=Outcome.TIMED_OUT, reason="too slow")
        store.save(ended, stored.version)
        assert store.find_builds(BuildFilter(states=("provisioning",)), limit=5).builds == ()
        assert store.find_builds(BuildFilter(outcome="timed_out", text="SLOW"), limit=5).builds == (ended,)
        store.set_aside(build.id)
        assert store.find_builds(BuildFilter(), limit=5).builds == ()

    def test_a_search_goes_on_behind_a_build_that_there_is(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.find_builds(BuildFilter(outcome="failed"), limit=2, before="none")
