"""Builds as a store holds them, for measurements that start from one."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import BUILD, Report, Step, encode, sign
from shared.build.build import Build, State
from shared.build.events import BuildRequested
from shared.build.plan import ImagePlan, MachinePlan, Plan, SourceImage
from shared.engine.lifecycle import begin
from shared.engine.messages import report_message
from shared.keys import Keys
from shared.ports import Message

SOURCE, FAMILY = "debian-12-20261101", "debian-12"


def plan(build_id: str, requested: float, *, project: str = "local", steps: int = 1) -> Plan:
    """Return a plan of so many scripts; what it makes is named after the build. Source and images are `project`'s."""
    return Plan(
        build_id=build_id,
        request=build_id.rpartition("-")[2].ljust(64, "0"),
        name=build_id.rpartition("-")[0],
        requested=requested,
        source=SourceImage(project, SOURCE, "sha256-0001", family=FAMILY),
        content_digest="1" * 64,
        image=ImagePlan(project, build_id, family="hello"),
        machine=MachinePlan(project),
        steps=tuple(
            Step(f"step-{number}", "run-script", {"script": "hello.sh", "env": {"NUMBER": str(number)}})
            for number in range(steps)
        ),
    )


def request(made: Plan) -> BuildRequested:
    """Return the event that asks for a plan's build."""
    return BuildRequested(build_id=made.build_id, event_id="request", time=made.requested, plan=made)


def build_in(state: State, made: Plan, zone: str = "") -> Build:
    """Return the build of a plan in a state, its VM in a zone, all its orders sent."""
    return replace(begin(request(made)).build, state=state, zone=zone, outbox=())


def report(keys: Keys, build_id: str, sequence: int, kind: str, step: int | None = None) -> Message:
    """Return a report as the first VM of a build publishes it."""
    said = Report(build_id, 1, BUILD, sequence, kind, 0.0, step=step, tries=1)
    data = encode(said)
    return report_message(said, data, sign(keys.of_machine(build_id, 1, BUILD), data))
