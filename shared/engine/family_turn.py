"""The turn of a build to publish in its family: one at a time, from the commit until older images are deprecated.

    build A   pass_turn(A, if of none) ── commit ── joins the family ── deprecates ── over
    build B                      A publishes: Transient, again later ────── pass_turn(B, if still A's) ── commit

Whether a turn is over is read from the build that has it. So it ends with that build, however its workers died. It ends
by time alone where a publication, or what follows it, does not pass: that is tried for a day, and then two builds may
publish at once. Each compares images by age, so the older one neither wins the family nor deprecates the newer one. A
process that dies between turn and commit leaves it to a build that is still to be committed.
"""

from __future__ import annotations

from ..build.build import Build, State
from ..errors import DamagedDocument, NotFound, Transient
from ..ports import Store

TURN_SECONDS = 900.0  # after the commit: for so long a build is waited for; a publication takes seconds


def take_turn_to_publish(build: Build, store: Store, now: float) -> None:
    """Take the turn of a build that is about to be committed. Transient while it is another one's."""
    image = build.plan.image if build.plan is not None else None
    if image is None or image.family is None:
        return
    before = store.publisher(image.project, image.family)
    if before == build.id:
        return
    if before and _publishes(before, store, now):
        raise Transient(f"build {build.id} waits for build {before}, which publishes in family {image.family}")
    taken = store.pass_turn(image.project, image.family, build.id, before)
    if not taken and store.publisher(image.project, image.family) != build.id:  # else by another worker of this build
        raise Transient(f"build {build.id} waits: another build has just begun to publish in family {image.family}")


def is_publishing(build: Build, now: float) -> bool:
    """Return whether a build may still change its family, and is waited for.

    One whose deprecation was refused is not, nor one that takes long: both are tried for a day.
    """
    if build.committed and now >= build.committed + TURN_SECONDS:
        return False
    return build.state is State.PUBLISHING or (build.retiring and not build.warnings) or build.withdrawing > 0


def _publishes(build_id: str, store: Store, now: float) -> bool:
    try:
        return is_publishing(store.load(build_id).build, now)
    except (NotFound, DamagedDocument):  # set aside, or to be
        return False
