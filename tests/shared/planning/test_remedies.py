"""What to do about builds that did not succeed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import LOST, Build, Outcome, State, StepRecord
from shared.engine.lifecycle import advance
from shared.errors import NO_SPACE
from shared.planning.remedies import remedy_of
from tests.world import values


def failed(reason: str = "step 'x' failed: exit status 1", *steps: StepRecord, **changes: object) -> Build:
    build = values.build(state=State.FINISHED, outcome=Outcome.FAILED, reason=reason, steps=steps)
    return replace(build, **changes)  # type: ignore[arg-type]  # fields of Build, by name


def step(output: str, status: int | None = 1) -> StepRecord:
    return StepRecord("x", "run-script", "failed", output=output, exit_status=status)


@pytest.mark.parametrize(
    ("output", "status", "remedy"),
    [
        ("tar: write error: No space left on device", 2, "output.disk_size_gb"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", 100, "output.disk_size_gb"),
        ("Temporary failure resolving 'deb.debian.org'", 100, "local.network"),
        ("curl: (6) Could not resolve host: example.com", 6, "local.network"),
        ("E: Unable to locate package ngnix", 100, "another name"),
        ("Error: Unable to find a match: ngnix", 1, "another name"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend", 100, "package manager"),
        ("SSL: CERTIFICATE_VERIFY_FAILED certificate verify failed", 1, "ca-certificates"),
        ("virtual memory exhausted: Cannot allocate memory", 1, "local.memory_mb"),
        ("", 137, "local.memory_mb"),
        ("x: nosuch: not found", 127, "not there"),
        ("sh: 1: ./preload.sh: Permission denied", 126, "chmod +x"),
        ("cat: /x: No such file or directory", 1, "`context`"),
        ("chmod: Operation not permitted", 1, "--engine vm"),
        ("assertion failed", 1, "goldsmith build SPEC --on-failure shell"),
    ],
)
def test_a_failed_step_has_a_remedy_by_its_cause(output: str, status: int, remedy: str) -> None:
    assert remedy in remedy_of(failed("x", step(output, status)))


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("create_resources: quota CPUS is used up", "more quota"),
        ("create_resources: ZONE_RESOURCE_POOL_EXHAUSTED", "build.zones"),
        ("the build VM was preempted, in the last of 3 attempts", "spot: false"),
        ("export_image: 403: compute.images.create", "docs/security.md"),
        ("the verify VM had a kernel panic", "--boot firmware"),
        ("the build VM powered itself off before its job was done", "end of the log"),
        ("/etc/machine-id was left by the build", "hygiene.allow"),
        (f"{NO_SPACE}/var/lib is full", "goldsmith cache prune"),
        ("anything else", ""),
    ],
)
def test_a_failure_without_a_step_has_a_remedy_by_its_reason(reason: str, remedy: str) -> None:
    assert remedy in remedy_of(failed(reason))
    assert bool(remedy) == bool(remedy_of(failed(reason)))


def test_each_outcome_has_its_own() -> None:
    assert remedy_of(values.build(outcome=Outcome.SUCCEEDED)) == ""
    assert remedy_of(values.build()) == ""
    assert remedy_of(values.build(outcome=Outcome.CANCELLED, reason="cancelled by a person")) == ""
    assert "build again" in remedy_of(values.build(outcome=Outcome.CANCELLED, reason=LOST))
    assert "goldsmith validate" in remedy_of(failed("build.yaml:1:1: nam: unknown key", plan=None))
    running = StepRecord("slow", "run-script", "running")
    assert "step slow" in remedy_of(failed("", running, outcome=Outcome.TIMED_OUT))
    assert "build.timeout" in remedy_of(failed("not done", outcome=Outcome.TIMED_OUT))


def test_a_build_whose_turn_has_not_come_is_told_so() -> None:
    queued = values.build(state=State.QUEUED)
    late, _orders = advance(queued, values.ticked(time=queued.deadline + 1))
    assert late.outcome is Outcome.TIMED_OUT
    assert "its turn did not come" in remedy_of(late)


def test_on_google_cloud_a_failed_step_is_looked_at_on_its_disk() -> None:
    build = failed("x", step("assertion failed"))
    assert build.plan is not None
    there = replace(build, plan=replace(build.plan, image=replace(build.plan.image, project="my-project")))
    assert "goldsmith submit SPEC --keep-on-failure" in remedy_of(there)


def test_hostile_output_is_looked_at_in_bounded_time() -> None:
    assert remedy_of(failed("x", step("no package " * 1_000_000)))
    assert remedy_of(failed("no package " * 100_000)) == ""
