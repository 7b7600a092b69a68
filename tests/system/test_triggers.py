"""Specs that are built again by themselves on one machine, as cron calls them: as root and as an ordinary user."""

from __future__ import annotations

import json

import pytest

from tests.system.command import Goldsmith
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
