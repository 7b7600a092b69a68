"""Valid plans, builds and events with good defaults; a test names only what it is about.

    plan(attempts=1)   build(state=State.EXPORTING)   reported(kind=STEP_FINISHED, sequence=3, step=0)

Every maker takes the fields of what it makes by name. One call is equal to the next: no clock, no random number.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from provisioner.protocol import STARTED, DiskLayout, Report, Step
from shared.build.build import Build, ImageRecord, LedgerEntry, Outcome, State, Stay, StepRecord
from shared.build.events import (
    BuildRejected,
    BuildRequested,
    CancelRequested,
    CleanedUp,
    DiskGrown,
    Event,
    ImageExported,
    ImageLabelled,
    ImageMade,
    ImagePublished,
    ImagesDeprecated,
    MachineStarted,
    MachineStopped,
    OrderFailed,
    PublicationStaged,
    PublicationWithdrawn,
    Reported,
    Ticked,
    TurnCame,
    report_id,
)
from shared.build.plan import ImagePlan, MachinePlan, Plan, SourceImage
from shared.build.trigger import Trigger, trigger_id
from shared.keys import BY_MACHINE

BUILD_ID = "hello-0123456789ab"
NOON = 1_795_176_000.0  # Unix seconds: 2026-11-20 12:00:00 UTC, when everything here begins


def plan(**changes: Any) -> Plan:
    """A plan of one run-script step on Debian 12, on one machine."""
    request = hashlib.sha256(b"hello").hexdigest()
    return replace(
        Plan(
            build_id=BUILD_ID,
            request=request,
            name="hello",
            requested=NOON,
            source=SourceImage("local", "debian-12-20261101", "sha256-0001", family="debian-12"),
            content_digest=hashlib.sha256(b"content").hexdigest(),
            image=ImagePlan("local", "hello-20261120", family="hello", labels={"team": "infra"}),
            machine=MachinePlan("local"),
            steps=(Step("greet", "run-script", {"script": "preload.sh", "env": {"RELEASE": "1"}}, timeout=300.0),),
        ),
        **changes,
    )


def growing_plan() -> Plan:
    """The plan of hello, whose VM asks for a disk that is larger than the one it is given."""
    made = plan(layout=DiskLayout(oem_size=1 << 30, disk_size=12 << 30))
    return replace(made, image=replace(made.image, disk_size_gb=12))


def build(**changes: Any) -> Build:
    """A build that has just been requested: preparing, nothing made, nothing ordered."""
    build_id = changes.get("id", BUILD_ID)
    made = changes["plan"] if "plan" in changes else plan(build_id=build_id)
    steps = made.steps if made else ()
    default = Build(
        id=build_id,
        name=made.name if made else "hello",
        request=made.request if made else hashlib.sha256(b"hello").hexdigest(),
        plan=made,
        state=State.PREPARING,
        created=NOON,
        updated=NOON,
        deadline=NOON + (made.timeout if made else 0.0),
        wake_at=NOON + 60,
        keys=BY_MACHINE,
        steps=tuple(StepRecord(step.name, step.action) for step in steps),
    )
    return replace(default, **changes)


def ended_build() -> Build:
    """A build on Google Cloud that has succeeded within ten minutes."""
    machine = MachinePlan("my-project", zones=("us-central1-a",), machine_type="e2-standard-2")
    path: tuple[tuple[State, int], ...] = (
        (State.QUEUED, 0),
        (State.PREPARING, 60),
        (State.PROVISIONING, 90),
        (State.EXPORTING, 400),
    )
    path = (*path, (State.PUBLISHING, 500), (State.CLEANING, 510), (State.FINISHED, 600))
    stays = tuple(Stay(state, 1, NOON + seconds) for state, seconds in path)
    made = build(plan=replace(plan(), machine=machine), state=State.FINISHED, stays=stays, updated=NOON + 600)
    return replace(made, outcome=Outcome.SUCCEEDED, image=image_record())


def image_record(**changes: Any) -> ImageRecord:
    """The image of plan(), as it was made."""
    return replace(ImageRecord("local", "hello-20261120", "sha256-0002"), **changes)


def trigger(**changes: Any) -> Trigger:
    """A spec that is built again for another source image, and each week."""
    spec = "gs://goldsmith-test/specs/hello.yaml"
    made = Trigger(
        id=trigger_id(spec),
        spec=spec,
        name="hello",
        text="name: hello\n",
        digest="d1" * 32,
        accepted=NOON,
        generation="1795176000",
        source={"project": "my-images", "family": "debian-12"},
        source_changed=True,
        every=7 * 86_400.0,
        since=NOON,
        seen_source="4711",
    )
    return replace(made, **changes)


def ledger_entry(**changes: Any) -> LedgerEntry:
    """The first attempt's machine."""
    return replace(LedgerEntry("machine", f"gs-{BUILD_ID}-a1-build", "local", "here"), **changes)


def requested(**changes: Any) -> BuildRequested:
    """A good request for plan()."""
    made = changes.pop("plan", None) or plan(build_id=changes.get("build_id", BUILD_ID))
    return replace(BuildRequested(build_id=made.build_id, event_id="requested", time=NOON, plan=made), **changes)


def rejected(**changes: Any) -> BuildRejected:
    """A request whose spec is wrong."""
    default = BuildRejected(
        build_id=BUILD_ID,
        event_id="requested",
        time=NOON,
        name="hello",
        request=hashlib.sha256(b"hello").hexdigest(),
        reason="build.yaml:1:1: nam: unknown key; did you mean name?",
    )
    return replace(default, **changes)


def report(**changes: Any) -> Report:
    """What the provisioner says first."""
    return replace(Report(BUILD_ID, 1, "build", 1, STARTED, NOON + 5), **changes)


def reported(*, time: float = NOON + 5, **changes: Any) -> Reported:
    """The event of report(**changes), with that report's id."""
    said = report(**changes)
    return Reported(build_id=said.build_id, event_id=report_id(said), time=time, report=said)


def turn_came(**changes: Any) -> TurnCame:
    """Nothing is before plan()'s build any more."""
    return replace(TurnCame(**_fact("turn", NOON + 1), image=plan().image), **changes)


def machine_started(**changes: Any) -> MachineStarted:
    """The build VM of the first attempt runs."""
    default = MachineStarted(**_fact("o1-MachineStarted", NOON + 2), attempt=1, phase="build", zone="here")
    return replace(default, **changes)


def machine_stopped(**changes: Any) -> MachineStopped:
    """The build VM of the first attempt has powered itself off, having said that it is done."""
    default = MachineStopped(
        **_fact("b1-MachineStopped", NOON + 20), attempt=1, phase="build", how="powered-off", claim="completed"
    )
    return replace(default, **changes)


def disk_grown(**changes: Any) -> DiskGrown:
    """The disk that the build VM waits for is as large as it shall be."""
    default = DiskGrown(**_fact("o2-DiskGrown", NOON + 8), attempt=1, phase="build", gigabytes=12)
    return replace(default, **changes)


def image_made(**changes: Any) -> ImageMade:
    """The image is there, and its archive is not."""
    return replace(ImageMade(**_fact("o2-ImageMade", NOON + 24), image=image_record()), **changes)


def image_exported(**changes: Any) -> ImageExported:
    """The image is there."""
    return replace(ImageExported(**_fact("o2-ImageExported", NOON + 25), image=image_record()), **changes)


def publication_staged(**changes: Any) -> PublicationStaged:
    """All that publication shows is ready."""
    return replace(PublicationStaged(**_fact("o3-PublicationStaged", NOON + 26)), **changes)


def image_labelled(**changes: Any) -> ImageLabelled:
    """The release before has published the image."""
    return replace(ImageLabelled(**_fact("o3-ImageLabelled", NOON + 26)), **changes)


def image_published(**changes: Any) -> ImagePublished:
    """The image is published."""
    return replace(ImagePublished(**_fact("o4-ImagePublished", NOON + 26.5)), **changes)


def publication_withdrawn(**changes: Any) -> PublicationWithdrawn:
    """All that was shown is taken back."""
    return replace(PublicationWithdrawn(**_fact("o5-PublicationWithdrawn", NOON + 28)), **changes)


def images_deprecated(**changes: Any) -> ImagesDeprecated:
    """The family's one older image is deprecated."""
    default = ImagesDeprecated(**_fact("o4-ImagesDeprecated", NOON + 27), names=("hello-20261101",))
    return replace(default, **changes)


def cleaned_up(**changes: Any) -> CleanedUp:
    """Nothing is left."""
    return replace(CleanedUp(**_fact("o5-CleanedUp", NOON + 28)), **changes)


def order_failed(**changes: Any) -> OrderFailed:
    """The VM cannot be made."""
    default = OrderFailed(
        **_fact("o1-OrderFailed", NOON + 3), order="create_resources", attempt=1, reason="quota CPUS is used up"
    )
    return replace(default, **changes)


def cancel_requested(**changes: Any) -> CancelRequested:
    """The author has cancelled the build."""
    return replace(CancelRequested(**_fact("cancel", NOON + 10), reason="cancelled by a person"), **changes)


def ticked(**changes: Any) -> Ticked:
    """A minute has passed."""
    return replace(Ticked(**_fact("tick", NOON + 60)), **changes)


def every_event() -> tuple[Event, ...]:
    """One event of each kind, all of one build."""
    return (
        requested(),
        rejected(),
        turn_came(),
        machine_started(),
        reported(),
        machine_stopped(),
        disk_grown(),
        image_made(),
        image_exported(),
        publication_staged(),
        image_labelled(),
        image_published(),
        publication_withdrawn(),
        images_deprecated(),
        cleaned_up(),
        order_failed(),
        cancel_requested(),
        ticked(),
    )


def _fact(event_id: str, time: float) -> dict[str, Any]:
    return {"build_id": BUILD_ID, "event_id": event_id, "time": time}
