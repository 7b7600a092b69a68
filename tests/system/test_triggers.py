"""Specs that are built again by themselves on one machine, as cron calls them: as root and as an ordinary user."""

from __future__ import annotations

import json

import pytest

from tests.system.command import Goldsmith, is_event, is_report
from tests.system.sandboxes import assert_nothing_left, sandboxed

pytestmark = pytest.mark.slow


def test_each_cause_is_built_once(sandboxes: Goldsmith) -> None:
    steps = [{"name": "one", "script": "echo one >/etc/one\n", "reads": []}]
    triggers = {"source_changed": True, "spec_changed": True}
    spec = sandboxed(sandboxes, steps, output={"family": "tiny"}, rebuild="changed", triggers=triggers)
    assert sandboxes.run("triggers", "add", spec).status == 0
    both = [sandboxes.start("triggers", "run") for _ in range(2)]
    assert [each.finish().status for each in both] == [0, 0]
    [image] = sandboxes.images()
    assert image["family"] == "tiny"
    again = sandboxes.run("triggers", "run")
    assert (again.status, again.out, again.err) == (0, "nothing is due\n", "")
    document = json.loads(spec.read_text())
    (spec.parent / "context" / "one.sh").write_text("exit 7\n")
    spec.write_text(json.dumps({**document, "description": "the second"}))
    failed = sandboxes.run("triggers", "run")
    assert failed.status == 1
    assert "tiny: it was changed" in failed.err
    assert sandboxes.run("triggers", "run").out == "nothing is due\n", "it was built for that"
    assert [build["outcome"] for build in sandboxes.builds()] == ["failed", "succeeded"]
    assert len(sandboxes.images()) == 1
    assert_nothing_left(sandboxes)


@pytest.mark.parametrize("user", ["root"], indirect=True)
def test_what_was_built_from_a_revoked_image_is_built_again(sandboxes: Goldsmith) -> None:
    specs = {}
    for name, source in (("base", ""), ("base", ""), ("web", "base"), ("app", "web")):
        steps = [{"name": "one", "script": "true\n", "reads": []}]
        more = {"source": {"project": "local", "family": source}} if source else {}
        specs[name] = sandboxed(sandboxes, steps, name=name, output={"family": name}, **more)
        assert sandboxes.run("build", specs[name]).status == 0
    second, first = (each["name"] for each in sandboxes.images() if each["family"] == "base")
    done = sandboxes.run("images", "revoke", second, "--reason", "bad", "--cascade", "--json")
    assert done.status == 0
    told = json.loads(done.out)
    assert (sorted(told["rebuilt"]), told["not_rebuilt"]) == ([str(specs["app"]), str(specs["web"])], [])
    images = sandboxes.images()
    app, web = (next(each for each in images if each["family"] == name) for name in ("app", "web"))
    plans = {build["image"]["name"]: build["plan"] for build in sandboxes.builds()}
    assert plans[web["name"]]["source"]["name"] == first
    assert plans[app["name"]]["source"]["id"] == web["id"]
    again = sandboxes.run("images", "revoke", second, "--reason", "bad", "--cascade")
    assert "family web leads to" in again.out
    assert sandboxes.images() == images
    assert_nothing_left(sandboxes)


@pytest.mark.parametrize("user", ["root"], indirect=True)
def test_a_newer_build_of_a_spec_with_triggers_supersedes_a_queued_one(sandboxes: Goldsmith) -> None:
    one_at_once = {"GOLDSMITH_CONCURRENCY": "1"}
    busy = sandboxed(sandboxes, [{"name": "one", "script": "sleep 10\n"}], name="busy")
    spec = sandboxed(sandboxes, [{"name": "one", "script": "true\n"}], triggers={"spec_changed": True})
    running = sandboxes.start("build", busy, "--json", environment=one_at_once)
    running.until(is_report("step-started"))
    first = sandboxes.start("build", spec, "--json", environment=one_at_once)
    queued = first.until(is_event("BuildRequested"))["event"]["build_id"]
    second = sandboxes.start("build", spec, "--json", environment=one_at_once)
    newer = second.until(is_event("BuildRequested"))["event"]["build_id"]
    assert first.finish().status == 1
    ended = {build["id"]: build for build in sandboxes.builds()}[queued]
    told = f"superseded by build {newer}, a newer request of the same spec"
    assert (ended["outcome"], ended["reason"]) == ("cancelled", told)
    assert [each.finish().status for each in (running, second)] == [0, 0]
    assert_nothing_left(sandboxes)
