"""What holds in every run, whatever happens: looked at when it is over, and when an image joins a family."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from provisioner.protocol import COMPLETED, VERIFY
from shared.build import resources
from shared.build.build import Build, Outcome
from shared.build.events import MachineStopped, read_image_document
from shared.engine.family_turn import is_publishing
from shared.names import BUILD_LABEL, EXPIRES_LABEL
from shared.ports import Image
from shared.topology import FINISHED_TOPIC
from tests.simulation.simulation import Simulation

PATIENCE = 3600.0  # seconds, within which every build comes to its end that meets with nothing worse than delays
STEP_HAS_FAILED = re.compile(r"^step \S+ failed")  # a guest's last word
LASTING = ("published", "kept", "held")  # the states of images that stay
UNPUBLISHED = (Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.FAILED)


def run(seed: int) -> tuple[Simulation, list[str]]:
    """Run a seed; return the run, and all that is wrong with it."""
    simulation = Simulation(seed)
    simulation.images.joins = lambda image: simulation.wrong.extend(of_member(image, simulation))
    simulation.run_all()
    return simulation, check(simulation)


def of_member(image: Image, simulation: Simulation) -> Iterator[str]:
    """Look at an image that is about to join a family: everything else has been done, and is committed.

    One that joins when its build is not waited for any longer may join beside another one: the older never leads.
    """
    build = next((build for build in simulation.built() if is_of(image, build, simulation)), None)
    if build is None:
        yield f"{image.name} joins family {image.family}, of no build that there is"
        return
    if not build.committed:
        yield f"{image.name} joins family {image.family} before {build.id}, which is {build.state}, is committed"
    if not is_publishing(build, simulation.clock.time):
        return
    for other in simulation.built():
        publishes = other.committed and is_publishing(other, simulation.clock.time)
        if other.id != build.id and publishes and is_of_family(other, image.family):
            yield f"{build.id} publishes in family {image.family} while {other.id} does"
    if build.outcome is None:  # else this worker is late by less than a call, and takes it back: the end shows whether
        for fault in of_joining(build, image, simulation):
            yield f"{build.id} as it joins: {fault}"


def is_of_family(build: Build, family: str | None) -> bool:
    """Return whether a build's image joins a family."""
    return build.plan is not None and build.plan.image.family == family


def check(simulation: Simulation) -> list[str]:
    """Return all that is wrong at the end of a run."""
    found = list(simulation.wrong)
    for build in simulation.built():
        for fault in (*of_build(build, simulation), *of_outcome(build, simulation)):
            found.append(f"{build.id}, {build.outcome} ({build.reason}): {fault}")
    return [
        *found,
        *of_families(simulation),
        *of_content(simulation),
        *of_foreign(simulation),
        *of_requests(simulation),
        *of_what_is_left(simulation),
        *of_retries(simulation),
    ]


def of_requests(simulation: Simulation) -> Iterator[str]:
    """Nothing is refused but an image's name that a person has chosen."""
    for request in simulation.requests:
        if request.refused and not request.spec.output.name:
            yield f"request {request.number} was refused: {request.refused}"


def of_build(build: Build, simulation: Simulation) -> Iterator[str]:
    """Whatever its outcome, a build is finished and told."""
    if not build.finished or build.outbox:
        yield f"is {build.state}, its outbox {build.outbox}"
    if not any(m.topic == FINISHED_TOPIC and m.attributes["build_id"] == build.id for m in simulation.bus.published):
        yield "was never announced"
    owed = [entry.name for entry in build.ledger if not entry.keep]
    if owed:
        yield f"still owes {owed}"
    yield from of_result(build, simulation)
    hurried = simulation.jumped or build.deadline - (build.turn or build.created) < PATIENCE
    if build.turn == 0 and build.reason.startswith("output.name: "):
        return  # refused at its turn, as its request would have been then: it had a chosen name
    ended = build.outcome is Outcome.FAILED or (build.outcome is Outcome.TIMED_OUT and not hurried)
    if ended and build.plan is not None and simulation.is_harmless(build.id):
        yield "nothing has happened that it could not survive"


def of_result(build: Build, simulation: Simulation) -> Iterator[str]:
    """The result object says how the build ended, and lists nothing that is gone."""
    if simulation.weather.full or simulation.weather.refuses:
        return  # it may have been lost
    data = simulation.bucket.objects.get(build.result)
    if data is None:
        yield "has no result object"
        return
    document = json.loads(data)
    if document["outcome"] != build.outcome:
        yield f"its result says {document['outcome']}"
    if document["left"]:
        yield f"its result lists {document['left']}"
    if STEP_HAS_FAILED.search(build.reason):  # which is all that is known where this was the first word to arrive
        told = [step["output"] for step in document["steps"] if step["status"] == "failed"]
        if not all(told) or not told:
            yield f"its result does not say how the step has failed: {document['steps']}"


def of_outcome(build: Build, simulation: Simulation) -> Iterator[str]:
    """What has succeeded is published, whole; anything else has published nothing."""
    image = ours(build, simulation)
    if build.outcome is Outcome.SUCCEEDED:
        yield from of_published(build, simulation)
    if build.outcome not in UNPUBLISHED or build.plan is None:
        return
    if build.committed and build.outcome is not Outcome.FAILED:
        yield "it was committed, so that neither a person nor its deadline could end it"
    if image is not None and image.family is not None:
        yield f"its image is in family {image.family}"
    if image is not None and not any(entry.kind == "image" for entry in build.ledger):
        yield "its image is there, and not in the ledger"
    theirs = {name for one in simulation.built() if one.outcome is Outcome.SUCCEEDED for name in published_names(one)}
    shown = [name for name in published_names(build) if name in simulation.bucket.objects and name not in theirs]
    if shown:
        yield f"it has published {shown}"
    yield from of_kept(build, image)
    if any(other.replacement == build.plan.image.name for other in simulation.images.values()) and image is not None:
        yield "older images were deprecated in favour of its image"


def of_kept(build: Build, image: Image | None) -> Iterator[str]:
    """An image that was not published, and stays, is named in the reason, and has an end."""
    if any(entry.kind == "image" for entry in build.ledger) and image is not None:
        if image.name not in build.reason:
            yield f"it keeps {image.name} and does not say so"
        if not build.kept_until:
            yield f"it keeps {image.name} for ever"
        if image.labels.get(EXPIRES_LABEL) != str(int(build.kept_until)):
            yield f"the image that it keeps says nothing of its end: {dict(image.labels)}"


def of_published(build: Build, simulation: Simulation) -> Iterator[str]:
    """The image of a build that has succeeded is there, in its family, with all that belongs to it."""
    image = ours(build, simulation)
    if image is None:
        yield "its image is gone"
        return
    yield from of_joining(build, image, simulation)
    if build.plan is not None and image.family != build.plan.image.family:
        yield f"its image is in family {image.family}"


def of_joining(build: Build, image: Image, simulation: Simulation) -> Iterator[str]:
    """An image joins its family after everything else."""
    assert build.plan is not None
    if dict(image.labels) != build.plan.image.published_labels:
        yield f"its image in the family has labels {dict(image.labels)}"
    missing = [name for name in published_names(build) if name not in simulation.bucket.objects]
    if missing:
        yield f"its image in the family lacks {missing}"


def published_names(build: Build) -> list[str]:
    """The archive, and what is beside it."""
    if build.plan is None or build.plan.image.export_to is None:
        return []
    archive = build.plan.image.export_to
    return [archive, resources.manifest_of(archive), *resources.sbom_names(resources.archive_stem(archive))]


def ours(build: Build, simulation: Simulation) -> Image | None:
    """The image that a build has made, if it is there."""
    if build.plan is None:
        return None
    image = simulation.images.get(build.plan.image.name)
    return image if image is not None and is_of(image, build, simulation) else None


def is_of(image: Image, build: Build, simulation: Simulation) -> bool:
    """Return whether an image is a build's: by its label, or without one by the id that a committed build has noted.

    Of several it is the last one's, which has taken it up when those before it could not publish it.
    """
    label = image.labels.get(BUILD_LABEL)
    if label is not None or build.plan is None or build.plan.image.own_labels or not build.committed:
        return label == build.id
    noted = [each for each in simulation.built() if each.committed and each.image and each.image.id == image.id]
    return bool(noted) and max(noted, key=lambda each: each.committed).id == build.id


def of_families(simulation: Simulation) -> Iterator[str]:
    """The newest image of a family is one of a build that has succeeded, and none was deprecated for an older one."""
    good = {b.plan.image.name for b in simulation.built() if b.outcome is Outcome.SUCCEEDED and b.plan}
    for image in simulation.images.values():
        if image.family and image.name not in good and image.name not in simulation.foreign:
            yield f"{image.name} is in family {image.family}, and no build has published it"
        newer = simulation.images.get(image.replacement or "")
        if image.replacement and (newer is None or newer.created < image.created):
            yield f"{image.name} was deprecated for {image.replacement}, which is older or gone"
    families = {image.family for image in simulation.images.values() if image.name in good}
    for family in sorted(filter(None, families)):
        members = [i for i in simulation.images.values() if i.family == family and i.name in good]
        newest = max(members, key=lambda image: image.created)
        if newest.deprecated:
            yield f"the newest image of family {family}, {newest.name}, is deprecated"


def of_content(simulation: Simulation) -> Iterator[str]:
    """With `rebuild: changed` no two builds publish the same, but where the first one's image was deprecated since.

    A retry waits for no other build: it publishes the image that it takes over, beside one that is on its way by then.
    """
    published: dict[tuple[str, str | None], Build] = {}
    for build in sorted(simulation.built(), key=lambda build: build.committed):
        plan = build.plan
        if build.outcome is not Outcome.SUCCEEDED or plan is None or plan.rebuild != "changed":
            continue
        before = published.setdefault((plan.content_digest, plan.image.family), build)
        image, beside = ours(before, simulation), build.created < before.committed
        if before is build or not plan.image.numbered or (beside and (build.retry_of or before.retry_of)):
            continue
        if image is not None and not image.deprecated:
            yield f"{build.id} has published what {before.id} had published"


def of_foreign(simulation: Simulation) -> Iterator[str]:
    """What others have made stays as it is, however it is labelled."""
    for name, image in simulation.foreign.items():
        if simulation.images.get(name) != image:
            yield f"the image of others {name} is now {simulation.images.get(name)}"


def of_what_is_left(simulation: Simulation) -> Iterator[str]:
    """No machine, no disk, no staged object, no image but those that builds keep."""
    left = simulation.left()
    if left["machines"] or left["disks"]:
        yield f"left: {left['machines']} {left['disks']}"
    staged = [name for name in left["objects"] if name.rpartition("/")[2].startswith(".")]
    if staged:
        yield f"left: {staged}"
    kept = {e.name for build in simulation.built() for e in build.ledger if e.kind == "image" and e.keep}
    unkept = sorted(set(simulation.images) - kept - set(simulation.foreign))
    if unkept:
        yield f"left: images {unkept}"
    for name in sorted(set(simulation.images) - set(simulation.foreign)):
        text = simulation.store.images.get(("local", name))
        known = read_image_document(text) if text is not None else None
        if known is None or known.id != simulation.images[name].id or known.state not in LASTING:
            yield f"left: image {name}, of which the store knows {known}"


def of_retries(simulation: Simulation) -> Iterator[str]:
    """A build is retried once at most, with its image; and no image is published that has failed verification last."""
    builds = sorted(simulation.built(), key=lambda build: build.created)
    by_id = {build.id: build for build in builds}
    retried = [build.retry_of for build in builds if build.retry_of]
    if len(set(retried)) != len(retried):
        yield f"builds were retried twice: {sorted(retried)}"
    for build in builds:
        first = by_id.get(build.retry_of)
        if first is not None and build.disk is not None:
            if first.image is not None or first.outcome not in UNPUBLISHED:
                yield f"{build.id} makes the image of {first.id}, which is {first.outcome} and had one"
        elif build.retry_of and (first is None or first.image is None or build.image is None):
            yield f"{build.id} retries {build.retry_of}, which has no image"
        elif first is not None and (_id(first) != _id(build) or first.outcome not in UNPUBLISHED):
            yield f"{build.id} retries {first.id}, which is {first.outcome}, with another image"
        if build.outcome is Outcome.SUCCEEDED and build.plan is not None and build.plan.verify_steps is not None:
            yield from of_verified(build, builds, simulation)


def _id(build: Build) -> str:
    return build.image.id if build.image else ""


def of_verified(build: Build, builds: list[Build], simulation: Simulation) -> Iterator[str]:
    """The image that a build has published was verified by the last of the builds that had to verify it."""
    made = [each for each in builds if _id(each) == _id(build)]
    until = made[: made.index(build) + 1]
    last = [each for each in until if not each.taken_up][-1]
    stops = simulation.store.events(last.id, kinds=("MachineStopped",))
    if not any(isinstance(stop, MachineStopped) and (stop.phase, stop.claim) == (VERIFY, COMPLETED) for stop in stops):
        yield f"{build.id} has published an image that {last.id} has not verified"
