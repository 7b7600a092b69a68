"""What a VM says leads to the same end in whatever order it comes, and however often: Pub/Sub promises none."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.protocol import (
    BUILD,
    COMPLETED,
    EXPORT,
    FAILED,
    INVENTORY,
    PHASES,
    REBOOTING,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    VERIFY,
    Report,
)
from shared.build.build import Build, Outcome, State
from shared.build.events import Reported, report_id
from shared.build.orders import OrderKind
from shared.engine.lifecycle import decide
from shared.engine.step_table import waiting
from tests.world import values
from tests.world.world import Guest, World

STEPS = 3


class Speaker:
    """A VM that says what an honest one says of its job, with numbers of its own."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.words: list[Report] = []

    def say(self, kind: str, **facts: object) -> None:
        number = len(self.words) + 1
        self.words.append(values.report(**{"phase": self.phase, "sequence": number, "kind": kind, **facts}))

    def step(self, index: int, failures: int, end: str) -> None:
        """Try a step: some tries fail before it ends well, with a reboot, for good, or not at all."""
        for tries in range(1, failures + 1):
            self.say(STEP_STARTED, step=index, tries=tries)
            self.say(STEP_FAILED, step=index, tries=tries, exit_status=3, seconds=0.5, output=f"try {tries}")
        last: dict[str, object] = {"step": index, "tries": failures + 1, "seconds": 0.5}
        self.say(STEP_STARTED, step=index, tries=failures + 1)
        if end == "fails":
            failed = {**last, "exit_status": 4, "output": "the last try", "final": True}
            self.say(STEP_FAILED, **failed)
            self.say(FAILED, **failed, message="step failed")
        elif end != "never":
            self.say(STEP_FINISHED, **last, exit_status=194 if end == "reboots" else 0)
        if end == "reboots":
            self.say(REBOOTING, step=index, seconds=60.0)
            self.say(STARTED, resumed_at=index + 1)


@st.composite
def words(draw: st.DrawFn) -> list[Report]:
    speaker = Speaker(draw(st.sampled_from(PHASES)))
    speaker.say(STARTED)
    for index in range(STEPS):
        end = draw(st.sampled_from(["well", "well", "reboots", "fails", "never"]))
        speaker.step(index, draw(st.integers(0, 2)), end)
        if end in ("fails", "never"):
            return speaker.words
    if speaker.phase == BUILD:
        speaker.say(INVENTORY, output="os\tid\tdebian")
    speaker.say(COMPLETED)
    return speaker.words


def told(order: list[Report]) -> tuple[Build, list[OrderKind]]:
    """The build after these words, all heard at one moment, and the orders that it gave."""
    plan = values.plan()
    plan = replace(plan, steps=plan.steps * STEPS, verify_steps=plan.steps * STEPS)
    by_phase = {BUILD: State.PROVISIONING, VERIFY: State.VERIFYING, EXPORT: State.EXPORTING}
    build = values.build(
        plan=replace(plan, exporter=plan.source),
        state=by_phase[order[0].phase],
        image=values.image_record(),
        zone="here",
        steps=waiting(plan.steps),
        verify_steps=waiting(plan.steps),
    )
    given_orders: list[OrderKind] = []
    for report in order:
        decision = decide(
            build, Reported(build_id=build.id, event_id=report_id(report), time=values.NOON, report=report)
        )
        build = decision.build
        given_orders += [each.kind for each in decision.orders]
    return replace(build, reports=0, newest=0), given_orders


@given(words(), st.randoms(use_true_random=False))
def test_hazard_2_reports_lead_to_the_same_end_in_any_order(said: list[Report], chance: random.Random) -> None:
    """But for how many were recorded: what comes after the last word, and says nothing of a step, is not."""
    shuffled = said + chance.choices(said, k=3)
    chance.shuffle(shuffled)
    assert told(shuffled) == told(said)


@given(words(), st.randoms(use_true_random=False))
def test_hazard_2_and_so_do_some_of_them(said: list[Report], chance: random.Random) -> None:
    some = sorted(chance.sample(said, chance.randint(1, len(said))), key=lambda report: report.sequence)
    shuffled = list(some)
    chance.shuffle(shuffled)
    assert told(shuffled) == told(some)


@pytest.mark.parametrize("phase", [BUILD, VERIFY])
@pytest.mark.parametrize("seed", range(10))
def test_the_result_of_a_failed_step_has_its_output_in_any_order(seed: int, phase: str) -> None:
    """Also when the clean-up that writes it is done before the step's own report is heard."""
    world = World(Guest(fails_at=0, phase=phase), pick=random.Random(seed).randrange)
    plan = replace(values.plan(), verify_steps=values.plan().steps)
    world.engine.request(values.requested(plan=plan, result="results/hello.json"))
    world.finish()
    assert world.build().outcome is Outcome.FAILED
    document = json.loads(world.bucket.objects["results/hello.json"])
    failed = [step for step in document["steps"] if step["status"] == "failed"]
    assert [(step["exit_status"], step["output"]) for step in failed] == [(3, "no such file")]
