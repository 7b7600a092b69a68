"""When a rule of lifecycle.py holds: what is so about a build and an event. The first lines stand in the documentation.

Guards decide nothing by themselves, and read nothing but their two values; lifecycle.py says what follows.
"""

from __future__ import annotations

from provisioner.protocol import (
    BUILD,
    COMPLETED,
    DISK_WANTED,
    FAILED,
    INVENTORY,
    PHASES,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    VERIFY,
)

from .build import Build, State
from .events import CleanedUp, DiskGrown, Event, MachineStarted, MachineStopped, OrderFailed, Reported, Ticked
from .orders import order_number
from .plan import Plan
from .resources import grown_gb

REPORTS = 500  # of one VM that are recorded, whatever it does
REPORTS_OF_A_TRY = 20  # more for each try of a step: started, finished or failed, reboots and power cuts
DISK_SECONDS = 60.0  # after an order for a larger disk, for so long no other one is given
RETIRING_SECONDS = 86_400.0  # after the commit: for so long a refused deprecation is tried again


def always(_build: Build, _event: Event) -> bool:
    """In any case."""
    return True


def phase_of(build: Build) -> str:
    """Which VM a build is with: the one that verifies from `verifying` on, else the one that builds."""
    return VERIFY if build.state is State.VERIFYING else BUILD


def has_machine(build: Build) -> bool:
    """A VM is at work: silence means something. In `verifying` only once a worker has made it."""
    return build.state is State.PROVISIONING or (build.state is State.VERIFYING and build.zone != "")


def is_current(build: Build, event: MachineStarted | MachineStopped | DiskGrown) -> bool:
    """The VM is the one in use."""
    return event.attempt == build.attempt and event.phase == phase_of(build)


def is_current_build_machine(build: Build, event: MachineStarted) -> bool:
    """The VM is this attempt's building one."""
    return event.attempt == build.attempt and event.phase == BUILD


def is_current_claimed(build: Build, event: MachineStarted) -> bool:
    """The VM is the one in use, and has already said that its job is done."""
    return is_current(build, event) and build.claimed


def is_verified(build: Build, event: MachineStopped) -> bool:
    """The VM in use was seen to run, said that its job is done, and has stopped."""
    return is_current(build, event) and build.claimed and build.zone != ""


def is_of_build(build: Build, event: MachineStarted) -> bool:
    """The VM is one that this build has asked for."""
    return 1 <= event.attempt <= build.attempt and event.phase in PHASES


def speaks(build: Build, event: Reported) -> bool:
    """The report is of the VM in use."""
    return event.report.attempt == build.attempt and event.report.phase == phase_of(build)


def says_completed(build: Build, event: Reported) -> bool:
    """The VM in use says that its job is done."""
    return speaks(build, event) and event.report.kind == COMPLETED


def claims_first(build: Build, event: Reported) -> bool:
    """The VM in use says that its job is done, and has not said so before."""
    return says_completed(build, event) and not build.claimed


def says_too_much(build: Build, event: Reported) -> str:
    """Return why a report is not recorded although it is of the VM in use; "" for one that is.

    Its last word always is: a VM that has said too much can still end.
    """
    report, plan = event.report, build.plan
    if report.attempt != build.attempt or report.kind in (COMPLETED, FAILED) or plan is None:
        return ""
    if report.kind == INVENTORY and (build.told_contents or report.phase != BUILD):
        return "the build VM tells what is installed once"
    most = most_reports(plan, report.phase)
    return f"its VM has sent {most} reports, and no honest one has more to say" if build.reports >= most else ""


def most_reports(plan: Plan, phase: str) -> int:
    """How many reports of one VM are recorded: some ten times what its steps can come to."""
    steps = plan.steps if phase == BUILD else plan.verify_steps or ()
    return REPORTS + REPORTS_OF_A_TRY * sum(1 + step.retries for step in steps)


def says_failed(build: Build, event: Reported) -> bool:
    """The VM in use says that its job cannot be done."""
    return speaks(build, event) and event.report.kind == FAILED


def wants_disk(build: Build, event: Reported) -> bool:
    """The VM in use waits for the larger disk that its plan has, and no order for that is on its way."""
    asks = speaks(build, event) and event.report.kind == DISK_WANTED
    ordered = build.disk_grown or event.time < build.disk_asked + DISK_SECONDS
    return asks and not ordered and build.plan is not None and grown_gb(build.plan) > 0


def goes_on(build: Build, event: Reported) -> bool:
    """The VM in use says that it is at work."""
    return speaks(build, event) and event.report.kind not in (COMPLETED, FAILED)


def tells_of_step(build: Build, event: Reported) -> bool:
    """A late word of this attempt on a step, or on what is installed; of verification only once there was one."""
    report = event.report
    heard = report.phase == BUILD or build.state is not State.EXPORTING
    facts = (STEP_STARTED, STEP_FINISHED, STEP_FAILED, INVENTORY)
    return heard and report.attempt == build.attempt and report.kind in facts


def may_go_on(build: Build, event: MachineStopped) -> bool:
    """The VM in use was taken away, and the budget of attempts is not spent."""
    taken = event.how in ("preempted", "lost") and event.claim is None
    return is_current(build, event) and taken and build.plan is not None and build.attempt < build.plan.attempts


def has_ended(build: Build, event: MachineStopped) -> bool:
    """The VM in use ended without a last word that is still on its way."""
    return is_current(build, event) and event.claim is None


def wants_verification(build: Build, _event: Event) -> bool:
    """The spec has a verify section, and the image was not verified for an earlier build."""
    return build.plan is not None and build.plan.verify_steps is not None and not build.taken_up


def wants_deprecation(build: Build, event: Event) -> bool:
    """The publication is committed, and the spec deprecates the family's older images."""
    return is_committed(build, event) and build.plan is not None and build.plan.image.deprecate_old is not None


def is_open(build: Build, _event: Event) -> bool:
    """The publication is not committed."""
    return not build.committed


def is_committed(build: Build, _event: Event) -> bool:
    """The publication is committed."""
    return build.committed > 0


def is_retiring(build: Build, _event: Event) -> bool:
    """The family's older images have still to be deprecated."""
    return build.retiring


def is_swept(build: Build, event: Event) -> bool:
    """The older images were all that was left to do."""
    return is_retiring(build, event) and all(entry.keep for entry in build.ledger)


def cannot_retire(build: Build, event: OrderFailed) -> bool:
    """The family's older images cannot be deprecated."""
    return is_retiring(build, event) and event.order == "deprecate_images"


def has_retired_for_long(build: Build, event: Event) -> bool:
    """The older images could not be deprecated for a day."""
    return is_retiring(build, event) and event.time >= build.committed + RETIRING_SECONDS


def is_overdue_retiring(build: Build, event: Event) -> bool:
    """The state's order has had no answer for too long, and older images have still to be deprecated."""
    return is_overdue(build, event) and is_retiring(build, event)


def is_clean(build: Build, event: CleanedUp) -> bool:
    """The newest clean-up has left nothing but what is kept, and nothing else is to be done."""
    return not event.remaining and order_number(event.event_id) >= build.cleaning and not build.retiring


def past_deadline(build: Build, event: Event) -> bool:
    """The deadline has passed, and the publication is not committed."""
    return event.time >= build.deadline and not build.committed


def is_silent(build: Build, event: Ticked) -> bool:
    """The VM in use has given no sign of life for too long, and none is on its way."""
    silent = build.plan is not None and event.time - build.last_seen >= build.plan.silence + build.quiet
    return silent and has_machine(build) and not event.heard


def is_overdue(build: Build, event: Event) -> bool:
    """The state's order has had no answer for too long."""
    return event.time >= build.wake_at


def is_overdue_machine(build: Build, event: Event) -> bool:
    """The order for the VM has had no answer for too long; a VM that is at work is left alone."""
    return is_overdue(build, event) and (build.claimed or not has_machine(build))
