"""What goes wrong in a cloud: VMs that are taken away, people who change their minds, time that runs out, echoes."""

from __future__ import annotations

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome, State
from shared.build.events import Reported
from tests.cloud.person import Person
from tests.cloud.test_upload import read_page

pytestmark = pytest.mark.vm

TWO_STEPS = {
    "steps:\n": "steps:\n  - {name: first, action: run-script, inputs: {script: first.sh}}\n",
    "preload.sh": "slow.sh",
}
SLOW = "#!/bin/sh\nsleep 600\n"


def running(person: Person, name: str) -> str:
    """Wait until the VM of a build is at work on its steps; return the VM's name."""
    build = person.until(name, lambda build: any(step.status == "running" for step in build.steps))
    return f"gs-{build.id}-a{build.attempt}-vm"


def test_a_preempted_vm_is_replaced_and_the_build_goes_on_where_it_was(person: Person, cloud: Cloud) -> None:
    folder = person.spec("spot", replace={"family: hello": "family: spot", **TWO_STEPS}, add="build: {spot: true}\n")
    (folder / "first.sh").write_text("#!/bin/sh\n[ ! -e /var/lib/first ] || exit 9\ndate >/var/lib/first\n")
    # the second attempt finds the mark that the first one leaves before it waits
    (folder / "slow.sh").write_text(
        "#!/bin/sh\n[ -e /var/lib/cut ] && exit 0\ntouch /var/lib/cut\nsync\necho marked\nsleep 600\n"
    )
    for name in ("first.sh", "slow.sh"):
        person.run("gsutil", "-q", "cp", folder / name, f"gs://{person.bucket}/specs/spot/")
    person.run("gsutil", "-q", "cp", folder / "build.yaml", f"gs://{person.bucket}/specs/spot/")
    build = person.until("spot", lambda build: build.steps[1].status == "running")
    person.hear(build, f"gs-{build.id}-a1-vm", "marked")
    cloud.compute.preempt(f"gs-{build.id}-a1-vm")
    cloud.scheduler.step("expire-builds")
    done = person.finished("spot")
    assert (done.outcome, done.attempt) == (Outcome.SUCCEEDED, 2), done.reason
    resumed = [
        event.report.resumed_at
        for event in person.events(done.id)
        if isinstance(event, Reported) and event.report.attempt == 2 and event.report.kind == "started"
    ]
    assert resumed == [1]


def test_a_cancelled_build_leaves_nothing(person: Person) -> None:
    folder = person.spec("wrong", replace={"family: hello": "family: wrong"})
    (folder / "preload.sh").write_text(SLOW)
    person.upload(folder)
    running(person, "wrong")
    assert "is cancelled" in person.goldsmith("builds", "cancel", "wrong")
    told = person.result("wrong/build-")
    assert (told["outcome"], told["image"]) == ("cancelled", None)


def test_a_deadline_ends_a_build(person: Person, cloud: Cloud) -> None:
    folder = person.spec("late", replace={"family: hello": "family: late"}, add="build: {timeout: 20s}\n")
    (folder / "preload.sh").write_text(SLOW)
    person.upload(folder)
    build = person.build("late")
    person.wait_until(build.deadline + 1)
    cloud.scheduler.step("expire-builds")
    done = person.finished("late")
    assert done.outcome is Outcome.TIMED_OUT
    assert done.reason
    cloud.scheduler.step("expire-builds")
    checks = {each["id"]: each for each in read_page(f"{cloud.functions.urls['dashboard']}/api/health")["checks"]}
    known = [checks[name]["count"] is not None for name in ("dead-letters", "leaked", "schedules")]
    assert known == [True, True, True], "expire_builds has written down what it has found"
    assert cloud.monitoring.asked


def test_a_rebuild_by_the_scheduler_is_a_build_only_when_something_has_changed(person: Person, cloud: Cloud) -> None:
    """Every message of the first build comes twice."""
    folder = person.spec("nightly", replace={"family: hello": "family: nightly"}, add="rebuild: changed\n")
    person.run("gsutil", "-q", "cp", folder / "preload.sh", f"gs://{person.bucket}/specs/nightly/")
    person.run("gsutil", "-q", "cp", folder / "build.yaml", f"gs://{person.bucket}/specs/nightly/spec.txt")
    cloud.scheduler.add_rebuild("nightly", "0 3 * * *", {"spec": f"gs://{person.bucket}/specs/nightly/spec.txt"})
    with cloud.router.duplicating():
        cloud.scheduler.step("nightly")
        first = person.finished("nightly")
    assert (first.outcome, first.attempt, first.state) == (Outcome.SUCCEEDED, 1, State.FINISHED), first.reason
    assert len([each for each in person.builds() if each.name == "nightly"]) == 1
    made = person.gcloud("compute", "images", "list", "--no-standard-images", "--filter=family=nightly")
    assert [image["labels"]["goldsmith-build"] for image in made] == [first.id]
    cloud.scheduler.step("nightly")
    second = person.until("nightly", lambda build: build.id != first.id and build.finished)
    assert second.outcome is Outcome.UNCHANGED
    assert second.image is not None
    assert first.image is not None
    assert second.image.name == first.image.name
