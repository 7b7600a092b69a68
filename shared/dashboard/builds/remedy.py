"""What a person can do about a build that has ended without an image, or that waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ...build.build import LOST, Build, Outcome, State
from ...build.resources import boot_commands, kept_disk, waits_with_disk
from ...errors import InputError
from ...planning.remedies import remedy_of
from ...planning.retries import check_retry
from ..web.served import Served

WITHOUT_IMAGE = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED)


def remedies_of(build: Build, served: Served) -> list[dict[str, Any]]:
    """Return what can be done, the best first: a sentence each, and the commands for it."""
    if served.is_interrupted(build):
        command = f"goldsmith builds resume {build.id}"
        return [_do("The process that ran this build has ended. Finish it, or clean up after it, with:", command)]
    if build.outcome not in WITHOUT_IMAGE:
        return []
    if build.plan is None:
        return [_do("Nothing was made. Correct the spec, check it, and build it again:", "goldsmith validate SPEC")]
    found = [*_of_kept_disk(build, served), *_of_retry(build, served), _of_outcome(build)]
    return [*found, _do("The whole log:", f"goldsmith builds logs {build.id}{served.options}")]


def _of_kept_disk(build: Build, served: Served) -> list[dict[str, Any]]:
    disk = kept_disk(build)
    if disk is None or waits_with_disk(build):
        return []
    until = f"{datetime.fromtimestamp(build.disk_until, UTC):%Y-%m-%d %H:%M} UTC"
    kept = f"Disk {disk.name} is kept until {until}, as the failed step has left it. Boot it with:"
    delete = f"goldsmith builds cancel {build.id}{served.options}"
    return [_do(kept, *boot_commands(build)), _do("Delete it earlier with:", delete)]


def _of_retry(build: Build, served: Served) -> list[dict[str, Any]]:
    try:
        check_retry(build, None)
    except InputError:
        return []
    command = f"goldsmith builds retry {build.id}{served.options}"
    return [_do("The steps are done. Once the cause is gone, go on from where it failed with:", command)]


def _of_outcome(build: Build) -> dict[str, Any]:
    if build.outcome is Outcome.CANCELLED:
        again = "It was left by a killed process" if build.reason == LOST else "It was cancelled"
        return _do(f"{again}; build its spec again when it is wanted.")
    remedy = remedy_of(build)
    if remedy:
        return _do(f"{remedy[0].upper()}{remedy[1:]}.")
    if build.failed_in is State.VERIFYING or build.verify_steps:
        return _do("Look at what the image's verification said, correct the spec, and build it again.")
    return _do("Mend what the reason names, and build the spec again.")


def _do(text: str, *commands: str) -> dict[str, Any]:
    return {"text": text, "commands": list(commands)}
