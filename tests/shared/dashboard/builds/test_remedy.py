"""What a person is told to do about a build, and what its page shows first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Build, LedgerEntry, Outcome, State
from shared.build.resources import boot_commands
from shared.dashboard.builds.remedy import remedies_of
from shared.dashboard.web.served import Served
from tests.browser.scenes import fill_store
from tests.shared.dashboard.pages_of import Pages
from tests.world import values
from tests.world.world import World

ENDED = values.build(state=State.FINISHED, outcome=Outcome.FAILED)


def told(build: Build, **more: object) -> tuple[list[str], list[str]]:
    served = Served(World().backend, "here", options=" --project p", **more)  # type: ignore[arg-type]  # fields, by name
    found = remedies_of(build, served)
    return [each["text"] for each in found], [command for each in found for command in each["commands"]]


@pytest.mark.parametrize("outcome", [None, Outcome.SUCCEEDED, Outcome.UNCHANGED])
def test_nothing_is_to_be_done_about_a_build_that_went_well(outcome: Outcome | None) -> None:
    assert told(replace(ENDED, outcome=outcome)) == ([], [])


def test_a_build_that_a_killed_process_has_left_is_resumed() -> None:
    running = values.build(state=State.PROVISIONING)
    assert told(running, is_interrupted=lambda _build: True)[1] == [f"goldsmith builds resume {running.id}"]


def test_a_spec_that_was_not_accepted_is_corrected() -> None:
    texts, commands = told(replace(ENDED, plan=None, steps=()))
    assert "Correct the spec" in texts[0]
    assert commands == ["goldsmith validate SPEC"]


def test_a_kept_disk_is_booted_or_deleted() -> None:
    disk = LedgerEntry("disk", f"gs-{ENDED.id}-a1-boot", "my-project", "us-central1-a", keep=True)
    held = replace(ENDED, state=State.HELD, ledger=(disk,), disk_until=values.NOON)
    texts, commands = told(held)
    assert texts[0].startswith(f"Disk {disk.name} is kept until 2026-11-20 12:00 UTC")
    assert commands[: len(boot_commands(held))] == list(boot_commands(held))
    assert f"goldsmith builds cancel {held.id} --project p" in commands


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Mend what the reason names"),
        ({"outcome": Outcome.TIMED_OUT}, "build.timeout"),
        ({"outcome": Outcome.CANCELLED}, "It was cancelled"),
        ({"steps": (replace(ENDED.steps[0], status="failed"),)}, "Correct the step, and build again"),
        ({"verify_steps": ENDED.steps}, "verification"),
    ],
)
def test_each_outcome_has_its_remedy_and_the_log(changes: dict[str, object], words: str) -> None:
    texts, commands = told(replace(ENDED, **changes))  # type: ignore[arg-type]  # fields, by name
    assert words in texts[0]
    assert commands == [f"goldsmith builds logs {ENDED.id} --project p"]


def test_an_image_that_waits_is_retried() -> None:
    world = World()
    plan = values.plan(retry_for=3600.0)
    kept = replace(ENDED, plan=plan, image=values.image_record(), kept_until=values.NOON + 9e9)
    kept = replace(kept, failed_in=State.PUBLISHING)
    found = remedies_of(kept, Served(world.backend, "here"))
    assert found[0]["commands"] == [f"goldsmith builds retry {kept.id}"]


def test_the_failing_step_and_its_last_lines_come_first() -> None:
    world = World()
    fill_store(world.store, values.NOON)
    pages = Pages(world)
    failure = pages.json("/builds/docker-0123456789ac")["failure"]
    assert (failure["step"], failure["exit_status"], failure["of_step"]) == ("configure", 100, True)
    assert failure["lines"][2] == [["E:", "ansi-red"], [" Unable to locate package dokcer.io", ""]]
    page = pages.html("/builds/docker-0123456789ac")
    assert page.index("Failed in step configure") < page.index("What you can do") < page.index('id="time-title"')
    assert pages.json("/builds/nginx-0123456789ab")["failure"] is None


def test_a_build_without_output_of_its_step_shows_the_end_of_its_console() -> None:
    world = World()
    stopped = replace(ENDED, reason="the VM was lost")
    world.store.create(stopped, values.requested())
    world.bucket.write(f"logs/{ENDED.id}/gs-{ENDED.id}-a1-vm.log", b"\n".join(b"line %d" % each for each in range(50)))
    failure = Pages(world).json(f"/builds/{ENDED.id}")["failure"]
    assert (failure["of_step"], len(failure["lines"]), failure["lines"][-1]) == (False, 20, [["line 49", ""]])
