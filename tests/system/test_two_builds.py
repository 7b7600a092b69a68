"""Several builds in one home: at once, of one key, of one name."""

from __future__ import annotations

import pytest

from tests.system.archives import assert_whole
from tests.system.command import Goldsmith, is_event
from tests.system.sandboxes import sandboxed

pytestmark = pytest.mark.vm


def test_builds_share_a_home(goldsmith: Goldsmith) -> None:
    """Two builds at once, one of them asked for twice with one key; then its name again, with the same and with other
    content."""
    steps = [{"name": "one", "script": "echo one > /var/lib/one\n"}]
    first = sandboxed(goldsmith, steps, name="first", output={"name": "first-1"})
    second = sandboxed(goldsmith, steps, name="second", output={"name": "second-1", "family": "second"})
    asked = ["build", str(first), "--json", "--key", str(goldsmith.home), "--output", str(goldsmith.output)]
    running = goldsmith.start(*asked)
    build_id = running.until(is_event("BuildRequested"))["event"]["build_id"]
    both = [goldsmith.start(*asked), goldsmith.start("build", second, "--json"), running]
    again, other, done = [one.finish() for one in both]
    assert [one.status for one in (again, other, done)] == [0, 0, 0], again.text + other.text + done.text
    assert done.documents()[-1]["build"]["id"] == again.documents()[-1]["build"]["id"] == build_id
    assert len(goldsmith.builds()) == 2
    assert sorted(image["name"] for image in goldsmith.images()) == ["first-1", "second-1"]
    assert_whole(goldsmith.output)
    goldsmith.traces.assert_none()
    assert_name_is_taken(goldsmith)


def assert_name_is_taken(goldsmith: Goldsmith) -> None:
    """The same content again is unchanged, whatever asks for it; other content under the name is bad input."""
    steps = [{"name": "one", "script": "echo one > /var/lib/one\n"}]
    same, build = goldsmith.build(sandboxed(goldsmith, steps, name="first", output={"name": "first-1"}))
    assert (same.status, build["outcome"]) == (0, "unchanged"), same.text
    steps[0]["script"] = "echo other > /var/lib/one\n"
    other = goldsmith.run("build", sandboxed(goldsmith, steps, name="first", output={"name": "first-1"}))
    assert (other.status, other.out) == (2, "")
    assert "output.name: image first-1 exists in project local with other content" in other.err
    assert len(goldsmith.images()) == 2
    goldsmith.traces.assert_none()
