"""What a person can do about a build that did not succeed, by its cause: exit status, output, reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ..build.build import LOST, Build, Outcome, StepRecord
from ..build.limits import OVER_BUDGET
from ..engine.reasons import NO_TURN
from ..errors import NO_SPACE
from ..names import LOCAL

TAIL = 65_536  # characters of a text that are looked at

_Remedies: TypeAlias = Sequence[tuple[tuple[str, ...], str]]
"""By phrases in small letters, any of which says it; the first remedy that fits counts."""

_MEMORY = "the memory was used up: give more by local.memory_mb on one machine, or a larger build.machine_type"

_OF_OUTPUT: _Remedies = (
    (
        ("no space left on device", "disk quota exceeded", "you don't have enough free space"),
        "the image's disk is full: give it more by output.disk_size_gb, or delete in the step what is not needed",
    ),
    (
        (
            *("temporary failure in name resolution", "temporary failure resolving", "could not resolve host"),
            *("name or service not known", "network is unreachable", "no route to host", "connection timed out"),
        ),
        "the step has not reached the network: look at local.network on one machine, and at build.external_ip and "
        "build.subnet on Google Cloud; `retries` of the step helps where it passes",
    ),
    (
        (
            *("unable to locate package", "unable to find a match", "no installation candidate"),
            *("no package matches", "no match for argument"),
        ),
        "the package has another name, or its repository is not set up: compare it with the distribution's list, and "
        "add the repository in a step before",
    ),
    (
        ("could not get lock", "dpkg frontend lock", "waiting for cache lock"),
        "another program of the image holds the package manager, such as unattended upgrades at boot: stop it in a "
        "step before, or give the step `retries`",
    ),
    (
        ("certificate verify failed", "certificate has expired", "certificate is not", "self-signed certificate"),
        "a certificate is not trusted: install ca-certificates, and where a proxy opens connections name its authority",
    ),
    (("out of memory", "cannot allocate memory", "oom-kill", " killed ", "\nkilled"), _MEMORY),
    (
        ("command not found", "no such file or directory"),
        "a program or file is not there: install it in a step before, and name files as they are called in the folder "
        "that `context` of the spec names",
    ),
    (
        ("permission denied", "operation not permitted"),
        "a right is lacking: `chmod +x` a script of the context; what the chroot engine refuses works with --engine vm",
    ),
)

_OF_STATUS = {
    126: "the script cannot be run: `chmod +x` it, and look at its first line",
    127: "a program is not there: install it in a step before, or name its whole path",
    137: f"the step was killed, most often since {_MEMORY}",
}

_OF_REASON: _Remedies = (
    (
        ("quota",),
        "ask for more quota, or wait until other builds have ended; a smaller machine or disk needs less",
    ),
    (
        ("stockout", "zone_resource_pool_exhausted", "does not have enough resources"),
        "name more zones in build.zones, or another build.machine_type, and build again",
    ),
    (
        ("preempted",),
        "the VM was taken back by Google in each attempt: build with spot: false, or allow more build.attempts",
    ),
    (
        ("permission", "forbidden", " 403"),
        "grant the account that is named the permission; docs/security.md lists what each function needs",
    ),
    (
        ("kernel panic", "emergency mode", "did not come up"),
        "the system did not boot, and its console is in the log: try `goldsmith build --boot firmware`, or undo what a "
        "step changed in boot loader, kernel or /etc/fstab",
    ),
    (
        ("was lost", "powered itself off"),
        "look at the end of the log: a step may have shut the machine down, or stopped its network or the provisioner",
    ),
    (
        ("secret", "private key", "was left by the build", "hygiene", "machine-id", "host key"),
        "remove in the last step what is named, or allow it by hygiene.allow with the reason why it may stay",
    ),
)


def remedy_of(build: Build) -> str:
    """Return what to do about a build that has not succeeded, in one sentence; "" where nothing is known, or needed."""
    if build.outcome is Outcome.TIMED_OUT:
        return _of_timeout(build)
    if build.outcome is Outcome.CANCELLED and build.reason == LOST:
        return "build again: the process that ran it has ended"
    if build.outcome is not Outcome.FAILED:
        return ""
    if build.plan is None and build.reason.startswith(OVER_BUDGET):
        return "ask again once there is room, or ask those who deploy it to change budgets"
    if build.plan is None:
        return "correct what is named, and check it with: goldsmith validate SPEC"
    if build.reason.startswith(NO_SPACE):
        return "make room on that file system, for example by `goldsmith cache prune`, and build again"
    failed = [record for record in build.all_steps if record.status == "failed"]
    return _of_step(build, failed[-1]) if failed else _first(_OF_REASON, build.reason)


def _of_step(build: Build, step: StepRecord) -> str:
    """Return the remedy of a step: by its exit status where that says it, by its output, or how to look at it."""
    found = _OF_STATUS.get(step.exit_status or 0, "") or _first(_OF_OUTPUT, step.output)
    if found:
        return found
    if "timeout" in build.reason:
        return "give the step more time by its `timeout`, or look at what it waits for"
    look = "to look around in the state that it has left: goldsmith build SPEC --on-failure shell"
    if build.plan is not None and build.plan.image.project != LOCAL:
        look = "to look at its disk: goldsmith submit SPEC --keep-on-failure 2h"
    return f"correct the step, and build again; {look}"


def _of_timeout(build: Build) -> str:
    """Return what gives a build more time, or what took it."""
    running = [record.name for record in build.all_steps if record.status == "running"]
    if running:
        return (
            f"step {running[-1]} was still running: look at what it waits for, or give the build more by build.timeout"
        )
    if build.reason.startswith(NO_TURN):
        return "its turn did not come in time: end builds before it, or allow more at once"
    return "give the build more time by build.timeout"


def _first(remedies: _Remedies, text: str) -> str:
    text = text[-TAIL:].lower()
    return next((remedy for phrases, remedy in remedies if any(phrase in text for phrase in phrases)), "")
