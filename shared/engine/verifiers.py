"""Several VMs that verify one image: a build as one of them sees it, and what they have said of themselves.

The rules of lifecycle.py know one machine in use. So an event of a verifier meets the build with what that verifier has
in the place of what the build has of the machine in use, and what comes of it is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provisioner.protocol import BUILD, VERIFY

from ..build.build import Build, State, Verifier
from ..build.events import Event, MachineStarted, MachineStopped, Reported, Ticked, verifier_of
from ..build.plan import Plan
from ..errors import Conflict, NotFound
from ..names import LOCAL, quoted
from ..ports import Store
from .step_table import waiting

PLACES = {
    "verify_steps": "steps",
    "zone": "zone",
    "claimed": "claimed",
    "reports": "reports",
    "last_seen": "last_seen",
    "quiet": "quiet",
    "newest": "newest",
    "verify_identity": "identity",
}
"""What a build has of the machine in use, and where a verifier has the same of itself."""
TRIES = 3  # of a conditional write of a sign of life: the next one comes soon


def verifiers_of(plan: Plan | None) -> tuple[Verifier, ...]:
    """Return the verifiers of a new build, before anything is known of them."""
    if plan is None or plan.verify_steps is None:
        return ()
    return tuple(Verifier(each.name, steps=waiting(plan.verify_steps)) for each in plan.verify_machines)


def verifier(build: Build, name: str) -> Verifier | None:
    """Return a build's verifier of that name."""
    return next((each for each in build.verifiers if each.name == name), None)


def foreign_reason(build: Build, event: Event) -> str:
    """Return why an event is of no VM that the build has; "" for any other event."""
    name = verifier_of(event)
    if name and verifier(build, name) is None:
        return f"it is of a VM {quoted(name)}, which this build does not have"
    said = isinstance(event, Reported) and event.report.phase
    seen = isinstance(event, MachineStarted | MachineStopped) and event.phase
    if bool(name) != bool(build.verifiers) and (said or seen) == VERIFY:
        return "it does not say which of the VMs that verify it is of"
    return "it is of a VM that verifies, and says that it builds" if name and (said or seen) == BUILD else ""


def as_seen_by(build: Build, name: str) -> Build:
    """Return a build with what a verifier has in the place of what there is of the machine in use."""
    own = verifier(build, name)
    if own is None:
        return build
    there: dict[str, Any] = {place: getattr(own, own_name) for place, own_name in PLACES.items()}
    return replace(build, deadline=min(build.deadline, own.deadline or build.deadline), **there)


def put_back(build: Build, seen: Build, name: str) -> Build:
    """Return what came of a build as a verifier sees it, with each thing in its own place again."""
    if verifier(seen, name) is None:
        return seen
    news: dict[str, Any] = {own_name: getattr(seen, place) for place, own_name in PLACES.items()}
    before: dict[str, Any] = {place: getattr(build, place) for place in PLACES}
    deadline = seen.deadline if seen.held and not build.held else build.deadline
    return replace(with_verifier(seen, name, **news), deadline=deadline, **before)


def with_verifier(build: Build, name: str, **changes: object) -> Build:
    """Return a build with changes to one of its verifiers."""
    changed = (replace(each, **changes) if each.name == name else each for each in build.verifiers)  # type: ignore[arg-type]
    return replace(build, verifiers=tuple(changed))


def each_view(build: Build) -> Iterator[tuple[str, Build]]:
    """Yield the machines in use: each name with the build as that one sees it, and "" with the build itself.

    A verifier that has passed is not in use any more.
    """
    if build.state is not State.VERIFYING or not build.verifiers:
        yield "", build
        return
    yield from ((each.name, as_seen_by(build, each.name)) for each in build.verifiers if not each.passed)


def failed_view(build: Build) -> tuple[str, Build]:
    """Return the machine in use of which a step has failed, else the first: its name, and the build as it sees it."""
    views = list(each_view(build)) or [("", build)]
    failed = [view for view in views if any(record.status == "failed" for record in view[1].verify_steps)]
    return (failed or views)[0]


def shared_identity(build: Build, name: str) -> str:
    """Return what a verifier, or with "" the VM that verifies, has in common with another VM of the build; "" for none.

    Those are the build VM, whose identity the image must not have, and the verifiers that have passed.
    """
    own = as_seen_by(build, name).verify_identity
    others = [("the build VM", build.identity)]
    others += [(f"verify machine {quoted(each.name)}", each.identity) for each in build.verifiers if each.passed]
    for other, identity in others:
        same = [line.split(" ")[0] for line in own if line in identity]
        if same and other != f"verify machine {quoted(name)}":
            return f"it has the same {', '.join(same)} as {other}"
    return ""


def begin_verifiers(build: Build, time: float) -> Build:
    """Return a build whose verifiers begin anew, but for those that have passed."""
    fresh = (each if each.passed else Verifier(each.name, last_seen=time, steps=each.steps) for each in build.verifiers)
    return replace(build, verifiers=tuple(fresh))


def due(build: Build, event: Event) -> tuple[str, ...]:
    """Return the verifiers to give an order for; ("",) in a build without.

    One machine has room for one of them at a time. A VM that is at work is left alone.
    """
    if not build.verifiers or build.state is not State.VERIFYING:
        return ("",)
    name = verifier_of(event)
    if name and not isinstance(event, MachineStopped):
        return (name,)
    left = [each for each in build.verifiers if not each.passed]
    one = build.plan is not None and build.plan.machine.project == LOCAL
    idle = [each for each in (left[:1] if one else left) if each.claimed or not each.zone]
    again = isinstance(event, Ticked)
    return tuple(each.name for each in idle if again or not each.ordered)


def note_signs(store: Store, build: Build, seen: float, name: str | None = None) -> None:
    """Move last_seen on of a verifier, or of all with None; in a build without, of its machine.

    A write that others get ahead of may be lost: silence is longer than the time between two signs.
    """
    if not build.verifiers or name == "":
        store.touch(build.id, seen)
        return
    for _try in range(TRIES):
        try:
            stored = store.load(build.id)
            moved = (
                replace(each, last_seen=max(each.last_seen, seen)) if name in (None, each.name) else each
                for each in stored.build.verifiers
            )
            store.save(replace(stored.build, verifiers=tuple(moved)), stored.version)
        except NotFound:
            return
        except Conflict:
            continue
        return
