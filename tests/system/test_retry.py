"""A build that fails once its image is made is retried from there: in a sandbox, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.system.command import Document, Goldsmith, is_event
from tests.system.sandboxes import ROOT_IN_SOAK, assert_nothing_left, sandboxed

pytestmark = pytest.mark.slow
BAD_INPUT, ENVIRONMENT = 2, 3
STEPS: list[Document] = [{"name": "one", "script": "echo one > /var/lib/one\n"}]


def failed_at_export(goldsmith: Goldsmith) -> Document:
    """Build, and put a file in the place of the folder that the archive is written to."""
    running = goldsmith.start("build", sandboxed(goldsmith, STEPS), "--json", "--output", goldsmith.output)
    running.until(is_event("MachineStarted"))
    goldsmith.output.write_text("in the way")
    done = running.finish()
    first: Document = done.documents()[-1]["build"]
    assert (done.status, first["outcome"], first["failed_in"]) == (1, "failed", "exporting"), done.text
    assert [entry["kind"] for entry in first["ledger"]] == ["image"]
    assert f"goldsmith builds retry {first['id']}" in first["reason"]
    return first


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_an_archive_that_could_not_be_written_is_written_by_a_retry(sandboxes: Goldsmith) -> None:
    first = failed_at_export(sandboxes)
    (kept,) = sandboxes.images()
    late = sandboxes.run("builds", "retry", first["id"], "--from", "publish")
    assert (late.status, late.out) == (BAD_INPUT, ""), late.text
    assert f"--from publish: build {first['id']} failed at export" in late.err
    same = sandboxes.run("builds", "retry", first["id"])  # the file is there still: found out before anything is made
    assert (same.status, same.out) == (ENVIRONMENT, ""), same.text
    assert f"{sandboxes.output} is not a folder" in same.err
    assert len(sandboxes.builds()) == 1

    other = sandboxes.folder / "other"
    done = sandboxes.run("builds", "retry", first["id"], "--output", other, "--json")
    second = done.documents()[-1]["build"]
    assert (done.status, second["outcome"], second["retry_of"]) == (0, "succeeded", first["id"]), done.text
    assert "provisioning" not in {document.get("state") for document in done.documents()}
    (image,) = sandboxes.images()
    assert (image["id"], "goldsmith-expires" in image["labels"]) == (kept["id"], False)
    told = json.loads((other / f"{image['name']}.json").read_text())
    assert told["build"]["retry_of"] == first["id"]
    assert (told["build"]["id"], [step["exit_status"] for step in told["steps"]]) == (second["id"], [0])
    assert sorted(path.name for path in other.iterdir() if path.name.startswith(".")) == []

    again = sandboxes.run("builds", "retry", first["id"])
    assert (again.status, again.out) == (BAD_INPUT, ""), again.text
    assert f"build {second['id']} has published the image of build {first['id']}" in again.err
    assert_nothing_left(sandboxes)


def test_a_killed_retry_is_finished_by_the_next_command(goldsmith: Goldsmith) -> None:
    first = failed_at_export(goldsmith)
    other = goldsmith.folder / "other"
    running = goldsmith.start("builds", "retry", first["id"], "--output", other, "--json")
    running.until(lambda document: document.get("progress") == "writing the archive")
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    resumed = goldsmith.run("builds", "resume", "--json")
    assert (resumed.status, list(json.loads(resumed.out)["builds"].values())) == (0, ["succeeded"]), resumed.text
    assert [path.name for path in other.iterdir() if path.name.endswith(".tar.gz")] != []
    assert len(goldsmith.images()) == 1
    assert_nothing_left(goldsmith)
