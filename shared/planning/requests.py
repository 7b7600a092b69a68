"""Turn a plan into a request for a build, and ask for a build's end.

Whatever can be found out before anything is made is found out by admit(): whether the image's name is free, whether its
content is there already, whether the machine or project can carry the plan. An exception leaves nothing behind. A build
that has to wait for others, or may have to, is queued, and looked at once more when its turn comes (turns.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import Build, ImageDocument, ImageRecord, State, Unfinished
from ..build.damage import readable_builds
from ..build.events import BuildRequested, CancelRequested, OrderFailed, TurnCame
from ..build.identity import LABEL_DIGITS
from ..build.image.people import persons_of
from ..build.orders import Order
from ..build.plan import ImagePlan, Plan
from ..build.resources import waits_with_disk
from ..engine.lifecycle import awaited_orders
from ..engine.messages import event_message, order_message
from ..engine.reasons import LONGEST_REASON
from ..errors import DamagedDocument, InputError
from ..names import BUILD_LABEL, DIGEST_LABEL, nearest
from ..ownership import SWEEP, content_of, copy_of, known_build, revocation_of, why_for_promotions_alone
from ..ports import Bus, Clock, Image
from .line import has_same_output

MOST_QUEUED = 500  # builds of a deployment
NUMBERS = 1000  # images of one spec and content on one day


def admit(plan: Plan, backend: Backend) -> BuildRequested:
    """Return the event that asks for the build of a plan. InputError, EnvironmentFault."""
    found = find_made(plan, backend)
    plan = replace(plan, image=found.image)
    asked = BuildRequested(build_id=plan.build_id, event_id="request", time=plan.requested, plan=plan)
    if found.unchanged is not None:
        return replace(asked, unchanged=found.unchanged)
    backend.compute.check(plan)
    if backend.signer is not None:
        backend.signer.check()
    limited = backend.concurrency is not None or (backend.family_concurrency is not None and bool(plan.image.family))
    may_wait = limited or plan.rebuild == "changed" or found.maker != ""
    if may_wait or not plan.image.numbered:
        line = readable_builds(backend.store.line())
        if _is_queued_for(plan, line, backend) or may_wait:
            _refuse_full(line)
            return replace(asked, queued=True)
    return replace(asked, replaces=found.replaces, taken_up=found.taken_up)


@dataclass(frozen=True)
class Found:
    """The image that a plan would make, and the images and builds that are there already for it."""

    image: ImagePlan  # with a name that is free
    unchanged: ImageRecord | None = None  # the published image that has this content
    replaces: str = ""  # the finished build whose image's name is taken over
    taken_up: ImageRecord | None = None  # that image, where it is what would be made
    maker: str = ""  # the unfinished build that makes this very image


def find_made(plan: Plan, backend: Backend) -> Found:
    """Find what there is of a plan's image; a name that is taken gets another number. InputError.

    Also for a source that was revoked, a family that is a channel, and approvals that nobody could give.
    """
    from .plan import numbered_image  # and with it the specs, of which a list of builds has no need

    refuse_revoked(plan, backend)
    refuse_channel("output.family", plan.image.project, plan.image.family, backend)
    refuse_approvals(plan, backend)
    if plan.rebuild == "changed" or not plan.image.numbered:
        image = find_unchanged(plan, backend)
        if image is not None:
            return Found(numbered_image(plan, 1), unchanged=ImageRecord(image.project, image.name, image.id))
    tries = (_take(plan, numbered_image(plan, number), backend) for number in range(1, NUMBERS))
    taken = next((each for each in tries if each is not None), None)
    if taken is None:
        raise InputError(f"output.name: {NUMBERS} images of {plan.name} were made today; choose a name, or delete some")
    return taken


def refuse_channel(key: str, project: str, family: str | None, backend: Backend) -> None:
    """Raise InputError where a family is a channel of another one that has images: only promotions fill it."""
    why = why_for_promotions_alone(project, family, backend)
    if why is not None:
        raise InputError(f"{key}: {why}")


def refuse_approvals(plan: Plan, backend: Backend) -> None:
    """Raise InputError where the spec asks for more approvals than a channel's approvers can give.

    One machine without channels may not be where the image is promoted, so it takes any.
    """
    channels = backend.channels() if plan.approvals else {}
    if not channels and backend.identities is None:
        return
    faults = []
    for name, wanted in plan.approvals.items():
        if name not in channels:
            why = nearest(name, channels) if channels else "no channels are set up; docs/published-images.md says how"
            faults.append(f"channels.{name}: there is no channel {name}; {why}")
            continue
        people = len(persons_of(channels[name].approvers, backend.people()))
        if not people:
            faults.append(
                f"channels.{name}: the channel {name} has no approvers, so nobody could approve; leave it out, or name "
                "approvers in the deployment's channels"
            )
        elif people < wanted:
            faults.append(
                f"channels.{name}.approvals: {wanted} people cannot approve, since the channel {name} has {people}; "
                f"write at most {people}, or name more approvers in the deployment's channels"
            )
    if faults:
        raise InputError("\n".join(faults))


def refuse_revoked(plan: Plan, backend: Backend) -> None:
    """Raise InputError where the source of a plan was revoked."""
    source = plan.source
    revoked = revocation_of(source, backend)
    if revoked is None:
        return
    instead = "another image" if source.family is None else f"family: {source.family}, if it leads to another one"
    raise InputError(f"source: image {source.name} of project {source.project} was {revoked.text}; name {instead}")


def _take(plan: Plan, wanted: ImagePlan, backend: Backend) -> Found | None:
    """Return what there is of an image of this name, or None where the name is taken and may have another number.

    InputError where it may not. A name whose image an earlier build could not publish is taken over, with the image if
    that has the same content. What cannot be read keeps its name: a newer release may be at work on it.
    """
    try:
        known = backend.store.image(wanted.project, wanted.name)
        holder = known_build(known.build_id, backend) if known is not None else None
    except DamagedDocument as error:
        if wanted.numbered:
            return None
        raise InputError(f"output.name: {error}; or choose another name") from error
    found = backend.compute.image(wanted.project, wanted.name)
    if known is None and found is None:
        return Found(wanted)
    swept = known is not None and known.build_id == SWEEP
    busy = swept or (holder is not None and not holder.ended)  # one that is held keeps its name as others keep images
    waits = wanted.numbered and holder is not None and waits_with_disk(holder)  # for a retry that takes over the name
    if known is not None and not busy and not waits and _may_take_over(known, found, wanted):
        fit = found is not None and known.state == "kept"
        same = fit and known.content_digest == plan.content_digest and is_alike(holder, plan)
        return Found(wanted, replaces=known.build_id, taken_up=_kept_record(known, holder) if same else None)
    if wanted.numbered:
        return None
    if known is not None and known.revoked is not None and found is not None and known.id == found.id:
        raise InputError(
            f"output.name: image {wanted.name} of project {wanted.project} was {known.revoked.text}; choose another "
            "name, or delete it first"
        )
    if swept:
        raise InputError(
            f"output.name: image {wanted.name} of project {wanted.project}, which an earlier build has kept, is being "
            "deleted, since its time is over; try again in a minute, or choose another name"
        )
    if known is not None and known.copy is not None and found is None:
        raise InputError(
            f"output.name: a promotion of image {known.copy.of} to the channel {known.copy.channel} makes image "
            f"{wanted.name} of project {wanted.project}; choose another name"
        )
    if holder is not None and busy:
        _refuse_other(holder, plan)
        return Found(wanted, maker=holder.id)
    raise InputError(
        f"output.name: image {wanted.name} exists in project {wanted.project} with other content, "
        "or with another family, size or labels; choose another name, or delete it first"
    )


def _may_take_over(known: ImageDocument, found: Image | None, wanted: ImagePlan) -> bool:
    """Return whether a finished build's name is free, with what it has kept; what it holds for a retry if need be."""
    if found is None:
        return known.copy is None or known.state == "published"
    states = ("kept",) if wanted.numbered else ("kept", "held")
    return known.state in states and known.id == found.id


def _refuse_other(holder: Build, plan: Plan) -> None:
    """Raise InputError unless an unfinished build that has a chosen name makes there what the plan would make."""
    if holder.plan is None or not has_same_output(holder.plan, plan):
        raise InputError(
            f"output.name: image {plan.image.name} of project {plan.image.project} is being made by build "
            f"{holder.id}, with other content, or with another family, size or labels; wait for its end, or choose "
            "another name"
        )


def _is_queued_for(plan: Plan, line: Sequence[Unfinished], backend: Backend) -> bool:
    """Return whether a queued build is to make the image of a chosen name, which it has not taken yet. InputError."""
    if plan.image.numbered:
        return False
    name = plan.image.project, plan.image.name
    for other in line:
        if other.state is State.QUEUED and (other.image_project, other.image) == name and other.id != plan.build_id:
            _refuse_other(backend.store.load(other.id).build, plan)
            return True
    return False


def _refuse_full(line: Sequence[Unfinished]) -> None:
    """Raise InputError where no more builds may be queued: every minute all of them are looked at."""
    queued = sum(build.state is State.QUEUED for build in line)
    if queued >= MOST_QUEUED:
        raise InputError(
            f"the queue is full: {queued} builds wait for their turn, and {MOST_QUEUED} may; ask again when some have "
            "begun, or take some out of it with: goldsmith builds cancel"
        )


def is_alike(maker: Build | None, plan: Plan) -> bool:
    """Return whether the image that a build has kept is what another plan would make, but for its labels and family.

    One that has failed its verification is not: it is made anew.

    The content digest does not cover what findings lead to, nor an image's size, licences and description. What one
    person has had built is not published as the image of another.
    """
    before = maker.plan if maker is not None and not maker.unfit else None
    if before is None:
        return False
    names = ("disk_size_gb", "licenses", "description")
    same = all(getattr(before.image, name) == getattr(plan.image, name) for name in names)
    return same and (before.hygiene, before.allow, before.source.architecture, before.author) == (
        plan.hygiene,
        plan.allow,
        plan.source.architecture,
        plan.author,
    )


def _kept_record(known: ImageDocument, maker: Build | None) -> ImageRecord:
    """Return what is known of a kept image, with what its own build has found in it; the archive is made anew."""
    if maker is None or maker.image is None or maker.image.id != known.id:
        return ImageRecord(known.project, known.name, known.id)
    return replace(maker.image, archive=None)


def find_unchanged(plan: Plan, backend: Backend) -> Image | None:
    """Return the published image of ours that has the plan's content: of the plan's name, if a person chose that.

    Otherwise any of the output project and family that is not deprecated.
    """
    wanted = plan.image
    if not wanted.numbered:
        named = backend.compute.image(wanted.project, wanted.name)
        same = named is not None and has_content(named, plan, backend) and is_same_output(named, plan)
        return named if same else None
    for image in backend.compute.images(wanted.project, family=wanted.family):
        if image.deprecated is None and has_content(image, plan, backend):
            return image
    return None


def has_content(image: Image, plan: Plan, backend: Backend) -> bool:
    """Return whether an image is ours, published, and of the plan's content: its labels alone do not say so."""
    told, wanted = image.labels.get(DIGEST_LABEL), plan.image
    asks = told is None and (wanted.family is not None or not wanted.own_labels)  # of a whole project, all would cost
    if told != plan.content_digest[:LABEL_DIGITS] and not asks:
        return False  # looked at first, since it costs nothing
    return content_of(image, backend) == plan.content_digest and copy_of(image, backend) is None


def is_same_output(image: Image, plan: Plan) -> bool:
    """Return whether an image of the plan's content is also in its family, of its size, and has its labels."""
    ours, theirs = (
        {k: v for k, v in labels.items() if k != BUILD_LABEL} for labels in (plan.image.published_labels, image.labels)
    )
    return (image.family, image.disk_size_gb, theirs) == (plan.image.family, plan.image.disk_size_gb, ours)


def give_up(build: Build, reason: str, bus: Bus, clock: Clock) -> None:
    """Have a build end as failed: what it waits for counts as failed. One that has an outcome is cleaned up again."""
    if build.outcome is not None:
        bus.publish(order_message(Order(build.id, build.orders, awaited_orders(build)[0], build.attempt), build))
        return
    bus.publish(event_message(given_up(build, reason, clock.now())))


def given_up(build: Build, reason: str, now: float) -> OrderFailed | TurnCame:
    """Return the fact that ends a build without an outcome as failed, also after its publication was committed."""
    event_id, reason = f"give-up-{now:.3f}", reason[:LONGEST_REASON]
    if build.state is State.QUEUED and build.plan is not None:
        return TurnCame(build_id=build.id, event_id=event_id, time=now, image=build.plan.image, refused=reason)
    kind = awaited_orders(build)[0]
    return OrderFailed(build_id=build.id, event_id=event_id, time=now, order=kind, attempt=build.attempt, reason=reason)


def ask_to_cancel(build_id: str, reason: str, bus: Bus, clock: Clock) -> None:
    """Ask for the end of a build, in any process."""
    now = clock.now()
    event = CancelRequested(build_id=build_id, event_id=f"cancel-{now:.3f}", time=now, reason=reason)
    bus.publish(event_message(event))
