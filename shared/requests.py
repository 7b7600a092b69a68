"""From a spec to a request for a build, and the request for a build's end.

A request resolves the source, makes the plan and looks whether anything has to be made.

All that can be found out before something is made is found out here: the image's name is taken, the content is there
already, the machine or project cannot carry the plan. What raises leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .build import Build, ImageDocument, ImageRecord
from .errors import InputError
from .events import BuildRequested, CancelRequested, OrderFailed
from .factory import Factory
from .identity import LABEL_DIGITS
from .lifecycle import wanted
from .messages import event_message, order_message
from .names import BUILD_LABEL, DIGEST_LABEL
from .orders import Order
from .ownership import content_of, find_build
from .plan import Context, Plan, SourceImage, make_plan
from .ports import Bus, Clock, Image

if TYPE_CHECKING:  # a tenth of a second of pydantic, which whoever only cancels does not need
    from .spec import Spec


NUMBERS = 1000  # images of one spec and content on one day


def request_build(
    spec: Spec,
    factory: Factory,
    *,
    source: SourceImage,
    context: Context | None,
    request: str,
    provisioner_version: str,
    amend: Callable[[Plan], Plan] = lambda plan: plan,
) -> BuildRequested:
    """Return the event that asks for a build of `spec`. `request` is what asked for it. InputError, EnvironmentFault.

    `amend` puts into the plan what the caller was told beside the spec, such as where the archive goes.
    """
    now = factory.clock.now()

    def numbered(number: int) -> Plan:
        plan = make_plan(
            spec,
            source=source,
            context=context,
            request=request,
            requested=now,
            provisioner_version=provisioner_version,
            number=number,
        )
        return amend(plan)

    plan = numbered(1)
    asked = BuildRequested(build_id=plan.build_id, event_id="request", time=now, plan=plan)
    unchanged = find_unchanged(plan, factory) if spec.rebuild == "changed" or not plan.image.numbered else None
    if unchanged is not None:
        return replace(asked, unchanged=ImageRecord(unchanged.project, unchanged.name, unchanged.id))
    tries = (_take(asked, numbered(number), factory) for number in range(1, NUMBERS))
    taken = next((each for each in tries if each is not None), None)
    if taken is None:
        raise InputError(f"output.name: {NUMBERS} images of {spec.name} were made today; choose a name, or delete some")
    factory.compute.check(taken.plan)
    return taken


def _take(asked: BuildRequested, plan: Plan, factory: Factory) -> BuildRequested | None:
    """Return the request with this plan, or None where the image's name is taken and may have a number.

    InputError where it may not. A name whose image an earlier build could not publish is taken over, with the image if
    that has the same content.
    """
    wanted = plan.image
    known, found = factory.store.image(wanted.project, wanted.name), factory.compute.image(wanted.project, wanted.name)
    if known is None and found is None:
        return replace(asked, plan=plan)
    holder = find_build(known.build_id, factory) if known is not None else None
    busy = holder is not None and not holder.finished
    if known is not None and not busy and (found is None or (known.state == "kept" and known.id == found.id)):
        same = found is not None and known.content_digest == plan.content_digest and is_alike(holder, plan)
        record = _kept_record(known, holder) if same else None
        return replace(asked, plan=plan, replaces=known.build_id, taken_up=record)
    if wanted.numbered:
        return None
    if known is not None and busy:
        raise InputError(
            f"output.name: image {wanted.name} of project {wanted.project} is being made by build {known.build_id}; "
            "wait for its end, or choose another name"
        )
    raise InputError(
        f"output.name: image {wanted.name} exists in project {wanted.project} with other content, "
        "or with another family, size or labels; choose another name, or delete it first"
    )


def is_alike(maker: Build | None, plan: Plan) -> bool:
    """Return whether the image that a build has kept is what another plan would make, but for its labels and family.

    The content digest does not cover what findings lead to, nor an image's size, licences and description.
    """
    before = maker.plan if maker is not None else None
    if before is None:
        return False
    names = ("disk_size_gb", "licenses", "description")
    same = all(getattr(before.image, name) == getattr(plan.image, name) for name in names)
    return same and (before.hygiene, before.allow, before.source.architecture) == (
        plan.hygiene,
        plan.allow,
        plan.source.architecture,
    )


def _kept_record(known: ImageDocument, maker: Build | None) -> ImageRecord:
    """Return what is known of a kept image, with what its own build has found in it; the archive is made anew."""
    if maker is None or maker.image is None or maker.image.id != known.id:
        return ImageRecord(known.project, known.name, known.id)
    return replace(maker.image, archive=None)


def find_unchanged(plan: Plan, factory: Factory) -> Image | None:
    """Return the published image of ours that has the plan's content: of the plan's name, if a person chose that.

    Otherwise any of the output project and family that is not deprecated.
    """
    wanted = plan.image
    if not wanted.numbered:
        named = factory.compute.image(wanted.project, wanted.name)
        same = named is not None and has_content(named, plan, factory) and is_same_output(named, plan)
        return named if same else None
    for image in factory.compute.images(wanted.project, family=wanted.family):
        if image.deprecated is None and has_content(image, plan, factory):
            return image
    return None


def has_content(image: Image, plan: Plan, factory: Factory) -> bool:
    """Return whether an image is ours, published, and of the plan's content: its labels alone do not say so."""
    if image.labels.get(DIGEST_LABEL) != plan.content_digest[:LABEL_DIGITS]:
        return False  # looked at first, since it costs nothing
    return content_of(image, factory) == plan.content_digest


def is_same_output(image: Image, plan: Plan) -> bool:
    """Whether an image of the plan's content is also in its family, of its size, and has its labels."""
    ours, theirs = (
        {k: v for k, v in labels.items() if k != BUILD_LABEL} for labels in (plan.image.labels, image.labels)
    )
    return (image.family, image.disk_size_gb, theirs) == (plan.image.family, plan.image.disk_size_gb, ours)


def give_up(build: Build, reason: str, bus: Bus, clock: Clock) -> None:
    """Have a build end as failed: what it waits for counts as failed. One that has an outcome is cleaned up again."""
    now = clock.now()
    kind = wanted(build)[0]
    if build.outcome is not None:
        bus.publish(order_message(Order(build.id, build.orders, kind, build.attempt), build))
        return
    event = OrderFailed(
        build_id=build.id, event_id=f"give-up-{now:.3f}", time=now, order=kind, attempt=build.attempt, reason=reason
    )
    bus.publish(event_message(event))


def cancel(build_id: str, reason: str, bus: Bus, clock: Clock) -> None:
    """Ask for the end of a build, whoever runs it."""
    now = clock.now()
    event = CancelRequested(build_id=build_id, event_id=f"cancel-{now:.3f}", time=now, reason=reason)
    bus.publish(event_message(event))
