"""From a spec to a request for a build, and the request for a build's end.

A request resolves the source, makes the plan and looks whether anything has to be made.

All that can be found out before something is made is found out here: the image's name is taken, the content is there
already, the machine or project cannot carry the plan. What raises leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .build import Build, ImageRecord
from .errors import InputError
from .events import BuildRequested, CancelRequested, OrderFailed
from .factory import Factory
from .identity import LABEL_DIGITS
from .lifecycle import wanted
from .messages import event_message, order_message
from .names import BUILD_LABEL, DIGEST_LABEL
from .orders import Order
from .plan import Context, Plan, SourceImage, make_plan
from .ports import Bus, Clock, Image

if TYPE_CHECKING:  # a tenth of a second of pydantic, which whoever only cancels does not need
    from .spec import Spec


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
    """Give the event that asks for a build of `spec`. `request` is what asked for it. InputError, EnvironmentFault.

    `amend` puts into the plan what the caller was told beside the spec, such as where the archive goes.
    """
    plan = amend(
        make_plan(
            spec,
            source=source,
            context=context,
            request=request,
            requested=factory.clock.now(),
            provisioner_version=provisioner_version,
        )
    )
    unchanged = find_unchanged(plan, spec.rebuild == "changed", factory)
    if unchanged is None:
        factory.compute.check(plan)
    record = None if unchanged is None else ImageRecord(unchanged.project, unchanged.name, unchanged.id)
    return BuildRequested(
        build_id=plan.build_id, event_id="request", time=factory.clock.now(), plan=plan, unchanged=record
    )


def find_unchanged(plan: Plan, anywhere: bool, factory: Factory) -> Image | None:
    """The image that has the plan's content already: of the plan's name, or `anywhere` in the output project."""
    digest = plan.content_digest[:LABEL_DIGITS]
    named = factory.compute.image(plan.image.project, plan.image.name)
    if named is not None and named.labels.get(DIGEST_LABEL) == digest and is_same_output(named, plan):
        return named
    if named is not None:
        raise InputError(
            f"output.name: image {named.name} exists in project {named.project} with other content, "
            "or with another family, size or labels; choose another name, or delete it first"
        )
    if not anywhere:
        return None
    for image in factory.compute.images(plan.image.project, family=plan.image.family):
        if image.labels.get(DIGEST_LABEL) == digest and image.deprecated is None:
            return image
    return None


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
