"""kill -9 of the builder at twenty moments: the next build, sweep or resume finishes it or cleans it up.

Once the VM has said that it is done, the next process finishes the build; before that it is cancelled, since
its VM dies with its builder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.archives import assert_agree
from tests.system.command import Document, Goldsmith, event_of, is_event, is_report, prints
from tests.system.sandboxes import sandboxed

pytestmark = pytest.mark.vm


@dataclass(frozen=True)
class Moment:
    """When it is killed: some seconds after a document of --json, or after its start."""

    after: Callable[[Document], bool] | None
    seconds: float = 0.0
    ends: tuple[str | None, ...] = ("cancelled",)  # outcomes that are right; None: there is no build
    engine: str = "vm"  # chroot where it is of no matter what runs at this moment


def works(what: str, percent: int) -> Callable[[Document], bool]:
    """Want the progress of long work."""

    def wanted(document: Document) -> bool:
        return (
            str(document.get("progress", "")).startswith(what) and document["done"] * 100 >= percent * document["total"]
        )

    return wanted


def is_state(state: str) -> Callable[[Document], bool]:
    """Want a state."""
    return lambda document: bool(event_of(document)) and document["state"] == state


DONE = ("succeeded",)
ANY = ("cancelled", "failed", "succeeded")  # failed: it said that it was done, and its disk was not whole
CHROOT = "chroot"

MOMENTS = {
    "as Python starts": Moment(None, 0.05, (None,), engine=CHROOT),
    "as it reads the spec": Moment(None, 0.4, (None, "cancelled"), engine=CHROOT),
    "as it begins": Moment(None, 0.8, (None, "cancelled"), engine=CHROOT),
    "when the build is written down": Moment(is_event("BuildRequested"), engine=CHROOT),
    "as the disk is copied": Moment(is_event("BuildRequested"), 0.2, engine=CHROOT),
    "as the machine is made": Moment(is_event("BuildRequested"), 1.0),
    "when the machine runs": Moment(is_event("MachineStarted")),
    "as the machine boots": Moment(is_event("MachineStarted"), 2.0),
    "when the provisioner has started": Moment(is_report("started"), engine=CHROOT),
    "when a step has started": Moment(is_report("step-started", 0)),
    "as a step prints": Moment(prints("halfway"), engine=CHROOT),
    "when a step is finished": Moment(is_report("step-finished", 0), ends=ANY, engine=CHROOT),
    "when the machine says that it is done": Moment(is_report("completed"), ends=(*DONE, "failed")),
    "as the machine stops": Moment(is_report("completed"), 0.5, (*DONE, "failed")),
    "when the archive is begun": Moment(works("writing the archive", 0), ends=DONE, engine=CHROOT),
    "when half of the archive is written": Moment(works("writing the archive", 50), ends=DONE, engine=CHROOT),
    "when the archive is written": Moment(works("writing the archive", 100), ends=DONE, engine=CHROOT),
    "when the archive is proved": Moment(works("proving the archive", 90), ends=DONE, engine=CHROOT),
    "when the image is made": Moment(is_event("ImageExported"), ends=DONE, engine=CHROOT),
    "when the image is published": Moment(is_event("PublicationStaged"), ends=DONE, engine=CHROOT),
    "when all is clean": Moment(is_state("finished"), ends=DONE, engine=CHROOT),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_killed_builder_leaves_nothing(goldsmith: Goldsmith, moment: Moment) -> None:
    lasts = 0 if set(DONE) & set(moment.ends) else 60  # seconds, so that the kill comes before the end
    steps = [{"name": "one", "script": f"echo halfway\nsleep {lasts}\necho one > /var/lib/one\n"}]
    spec = sandboxed(goldsmith, steps) if moment.engine == CHROOT else goldsmith.spec(steps)
    running = goldsmith.start("build", spec, "--json", "--output", goldsmith.output)
    if moment.after is not None:
        running.until(moment.after)
    if moment.seconds:
        running.ends_within(moment.seconds)
    running.kill()
    goldsmith.traces.wait_for_no_process()
    outcome = assert_recovered(goldsmith)
    assert outcome in moment.ends
    assert_output(goldsmith.output, outcome)
    assert [image["name"] for image in goldsmith.images()] == (
        [image_name(goldsmith.output)] if outcome in DONE else []
    )
    swept = goldsmith.run("sweep")
    assert swept.status == 0, swept.text
    goldsmith.traces.assert_none()
    assert goldsmith.run("sweep").out == "nothing to do\n"


def assert_recovered(goldsmith: Goldsmith) -> str | None:
    """End the builds that were left, which the list alone does not. Give the outcome of the one that there is."""
    listed = goldsmith.builds()
    assert [build["interrupted"] for build in listed] == [build["state"] != "finished" for build in listed]
    resumed = goldsmith.run("builds", "resume")
    assert resumed.status == 0, resumed.text
    builds = goldsmith.builds()
    assert len(builds) <= 1
    for build in builds:
        assert build["state"] == "finished"
        assert [entry["kind"] for entry in build["ledger"]] == (["image"] if build["outcome"] in DONE else [])
    return builds[0]["outcome"] if builds else None


def assert_output(folder: Path, outcome: str | None) -> None:
    """The archive and what is beside it are there as a whole, or nothing is, hidden or not."""
    if outcome in DONE:
        assert_agree(folder)
    else:
        assert not folder.exists() or list(folder.iterdir()) == []


def image_name(folder: Path) -> str:
    """The name of the image whose archive is in the folder."""
    (archive,) = folder.glob("*.tar.gz")
    return archive.name.removesuffix(".tar.gz")
