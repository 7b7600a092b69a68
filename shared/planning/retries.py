"""Ask for a retry: a new build that takes over the image which a failed one has kept, and goes on from a phase.

    first build    failed ── finished, its image kept until a time: document `held`, or `kept` if fit to be published
    retry          create(build, event, the image's document if it is still that of the first build) → else NameTaken
    sweep, another retry, a build that takes the name: each writes on the same condition, and one wins

Where no image could be made, the boot disk is kept by a build that is `held`, with the name of its image. The document
of that name is what a retry takes over, and the disk with it; the end of the hold gives the name up before the disk.

No image is published that a phase has failed on and that has not passed it since: a retry begins no later than that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..backend import Backend
from ..build.build import Build, ImageDocument, ImageRecord, Outcome, State, TakenDisk
from ..build.damage import readable_builds
from ..build.events import BuildRequested
from ..build.identity import build_id, request_digest, retry_request
from ..build.plan import Context, Plan
from ..build.resources import kept_disk, waits_with_disk
from ..errors import EnvironmentFault, InputError
from ..names import BUILD_LABEL
from ..ownership import SWEEP, find_build
from .line import occupies
from .requests import refuse_approvals, refuse_channel, refuse_revoked

RETRY_PHASES = {State.EXPORTING: "export", State.VERIFYING: "verify", State.PUBLISHING: "publish"}
"""What people call the states that a retry can begin with, in their order."""


def retry_id(first: Build) -> str:
    """Return the id of the only build that can be the retry of another one."""
    return build_id(first.name, _asked(first))


def ask_for_retry(first: Build, start: str | None, backend: Backend, *, export_to: str | None = None) -> BuildRequested:
    """Return the event that asks for the retry of a build, from the phase where it failed or from an earlier one.

    InputError where that build keeps nothing, its source was revoked, its family is a channel by now, or `start` would
    leave out what the image has not passed; EnvironmentFault. `export_to` is another place for the export. The caller
    sees to the context.
    """
    kept = check_retry(first, start)
    plan, image = kept.plan, kept.image
    if image is not None:
        _refuse_gone(first, image, backend)
    else:
        _refuse_gone_disk(first, plan, backend)
    refuse_revoked(plan, backend)
    refuse_channel("output.family", plan.image.project, plan.image.family, backend)
    refuse_approvals(plan, backend)
    again = kept.start != RETRY_PHASES[State.PUBLISHING]
    steps = plan.verify_steps if again else None
    boots = steps is not None or plan.exporter is not None
    refuse_busy(plan, backend, boots=boots)
    plan = _planned_anew(first, plan, export_to, backend.clock.now())
    looked_at = plan.source
    if image is not None:  # its own source may be gone
        looked_at = replace(plan.source, project=image.project, name=image.name, id=image.id)
    looked_at_plan = replace(plan, source=looked_at, steps=steps or (), verify_steps=steps, context=None)
    backend.compute.check(looked_at_plan, boots=boots)
    if backend.signer is not None:
        backend.signer.check()
    return BuildRequested(
        build_id=plan.build_id,
        event_id="request",
        time=plan.requested,
        plan=plan,
        replaces=first.id,
        taken_up=None if image is None else replace(image, archive=None, files=()),
        verify_again=again,
        retry_of=first.id,
        steps=first.steps,
        identity=first.identity,
        disk=kept.disk,
    )


def in_context(request: BuildRequested, context: Context) -> BuildRequested:
    """Return the request with the packed context where the verifying VM finds it."""
    return replace(request, plan=replace(request.plan, context=context))


def needs_context(build: Build) -> bool:
    """Return whether a retry of a build may give a verifying VM the files of the context."""
    plan = build.plan if build.kept_until else None
    return plan is not None and plan.context is not None and plan.verify_steps is not None


def _asked(first: Build) -> str:
    return retry_request(first.id, first.request)


@dataclass(frozen=True)
class Kept:
    """What a build keeps for a retry: its image or, where none could be made, its boot disk."""

    plan: Plan
    start: str  # the phase that the retry begins with
    image: ImageRecord | None = None
    disk: TakenDisk | None = None


def check_retry(first: Build, start: str | None) -> Kept:
    """Return what a retry begins with, and the phase, as far as the build itself tells.

    InputError where there is nothing to begin with, or no reason to.
    """
    if first.outcome is None or not first.ended:
        raise InputError(f"build {first.id} is {first.state}; it can be retried once it has ended, if it fails late")
    if first.outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED):
        raise InputError(f"build {first.id} is {first.outcome}: there is nothing to retry; build its spec again")
    plan, image = first.plan, first.image
    disk = kept_disk(first) if waits_with_disk(first) else None
    if plan is not None and disk is not None:
        maker = first.disk.maker if first.disk is not None else first.id
        taken = TakenDisk(disk.name, disk.project, disk.zone, maker)
        return Kept(plan, _start(first, plan, start), disk=taken)
    if plan is not None and plan.image.files_only:
        raise InputError(f"build {first.id} has only written files of image {plan.image.name}; ask for them again")
    if plan is None or image is None or not first.kept_until:
        raise InputError(f"build {first.id} is {first.outcome} and keeps no image to go on with; build its spec again")
    return Kept(plan, _start(first, plan, start), image=image)


def _refuse_gone_disk(first: Build, plan: Plan, backend: Backend) -> None:
    """Raise InputError where another build has the disk, or the image's name, or the disk's time is over."""
    known = backend.store.image(plan.image.project, plan.image.name)
    retry = find_build(retry_id(first), backend)
    if retry is not None and retry.retry_of == first.id:
        raise InputError(f"build {retry.id} has taken over the disk of build {first.id}; retry that one instead")
    if known is None or known.build_id != first.id or backend.clock.now() >= first.disk_until:
        until = datetime.fromtimestamp(first.disk_until, UTC)
        raise InputError(
            f"build {first.id} kept its disk, and the name of its image, until {until:%Y-%m-%d %H:%M} UTC at the "
            "longest, and one of them is gone; build its spec again"
        )


def _refuse_gone(first: Build, image: ImageRecord, backend: Backend) -> None:
    """Raise InputError where another build has the image, or its time is over."""
    known = backend.store.image(image.project, image.name)
    if known is not None and known.id == image.id and known.build_id not in (first.id, SWEEP):
        raise InputError(_taken_over(first, known, backend))
    found = backend.compute.image(image.project, image.name)
    there = found is not None and found.id == image.id and known is not None and known.build_id == first.id
    if not there or backend.clock.now() >= first.kept_until:
        until = datetime.fromtimestamp(first.kept_until, UTC)
        raise InputError(
            f"build {first.id} kept image {image.name} until {until:%Y-%m-%d %H:%M} UTC at the longest, and that is "
            "gone; build its spec again"
        )


def _taken_over(first: Build, known: ImageDocument, backend: Backend) -> str:
    """Return the message that another build has the image, and what is left to do."""
    if known.state == "published":
        return f"build {known.build_id} has published the image of build {first.id}; nothing is left to retry"
    told = f"build {known.build_id} has taken over the image of build {first.id}"
    if find_build(known.build_id, backend) is None:
        return f"{told}, and was set aside or cannot be read; delete it with: goldsmith images delete {known.name}"
    return f"{told}; retry that one instead"


def _start(first: Build, plan: Plan, start: str | None) -> str:
    """Return the phase to begin with. InputError."""
    order = list(RETRY_PHASES.values())
    failed = RETRY_PHASES[State.PUBLISHING if first.keeps_fit else first.failed_in or State.VERIFYING]
    start = failed if start is None else start
    if start not in order:
        raise InputError(f"--from {start}: choose {', '.join(order[:-1])} or {order[-1]}")
    if order.index(start) > order.index(failed):
        raise InputError(
            f"--from {start}: build {first.id} failed at {failed}; a retry begins there or earlier, so that no image "
            f"is published that has not passed it; choose {failed}"
        )
    if start == RETRY_PHASES[State.VERIFYING] and plan.verify_steps is None:
        raise InputError(f"--from {start}: the spec of build {first.id} has no section verify; choose another phase")
    return start


def refuse_busy(plan: Plan, backend: Backend, *, boots: bool) -> None:
    """Raise EnvironmentFault where a queued build would wait: a retry does not, and publishes as any other."""
    most, most_of_family, image = backend.concurrency, backend.family_concurrency, plan.image
    if (most is None or not boots) and (most_of_family is None or not image.family):
        return
    busy = [build for build in readable_builds(backend.store.line()) if occupies(build)]
    of_family = [build for build in busy if (build.image_project, build.family) == (image.project, image.family)]
    for found, limit, what in (
        (busy, most if boots else None, "builds have VMs"),
        (of_family, most_of_family if image.family else None, f"builds make images of the family {image.family}"),
    ):
        if limit is not None and len(found) >= limit:
            raise EnvironmentFault(f"{len(found)} {what}, and {limit} may at once; retry once one of them has ended")


def _planned_anew(first: Build, plan: Plan, export_to: str | None, now: float) -> Plan:
    """Return the plan of the retry: the same image, with a time and names of its own."""
    asked = _asked(first)
    identity = build_id(first.name, asked)
    image = replace(plan.image, labels={**plan.image.labels, BUILD_LABEL: identity}, same_as=None)
    if export_to is not None:
        image = replace(image, export_to=export_to)
    machine = replace(plan.machine, hold=0.0)  # the command that could open a shell is over
    request = request_digest(asked)
    left = max(plan.retry_for, first.kept_until - now)  # no earlier than without the retry
    disk_left = max(plan.retry_disk_for, first.disk_until - now) if plan.retry_disk_for else 0.0
    plan = replace(plan, build_id=identity, request=request, requested=now, image=image, machine=machine)
    return replace(plan, retry_for=left, retry_disk_for=disk_left)
