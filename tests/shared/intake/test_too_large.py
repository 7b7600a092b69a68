"""What the store cannot take, however often it is tried, is a rejected build that says so, and no endless retry."""

from __future__ import annotations

import random
import string
from dataclasses import replace

import pytest

from provisioner.protocol import Step
from shared.build.build import Build, ImageDocument, State
from shared.build.events import Event
from shared.engine.engine import Engine
from shared.errors import PoisonMessage, StoreError
from shared.gcp.documents import BEGINS_WITHIN, DOCUMENT_LIMIT, build_fields, event_fields
from shared.intake.intake import REASON_LIMIT, Intake
from shared.intake.request import PARAMETERS_LIMIT
from tests.world import values
from tests.world.intake import PLAIN, Desk, Place, reason
from tests.world.memory_store import MemoryStore


class FirestoresLimits(MemoryStore):
    """Takes what Firestore takes."""

    def create(self, build: Build, event: Event, image: ImageDocument | None = None, replaces: str = "") -> None:
        build_fields(build, BEGINS_WITHIN)
        event_fields(event)
        super().create(build, event, image, replaces)

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        build_fields(build)
        if event is not None:
            event_fields(event)
        return super().save(build, expected, event, image, replaces)


class Refusing(MemoryStore):
    """Refuses whatever has a plan."""

    def create(self, build: Build, event: Event, image: ImageDocument | None = None, replaces: str = "") -> None:
        if build.plan is not None:
            raise StoreError("the store does not like it; write another spec")
        super().create(build, event, image, replaces)


@pytest.fixture
def desk() -> Desk:
    return desk_with(FirestoresLimits())


def desk_with(store: MemoryStore) -> Desk:
    desk = Desk()
    desk.world.store = store
    desk.world.backend = replace(desk.world.backend, store=store)
    desk.intake = Intake(desk.world.backend, desk.objects, Place())
    return desk


def noise(characters: int, seed: int = 0) -> str:
    """Return what zlib can make little of."""
    letters = string.ascii_letters + string.digits + "-_.,:;!?"
    return "".join(random.Random(seed).choices(letters, k=characters))


def test_a_plan_too_large_for_the_store_is_a_rejected_build(desk: Desk) -> None:
    """Each step takes the parameter whole: 400 kB of spec are 2 MB of plan."""
    step = "  - {name: sN, action: install-anthos, inputs: {package_spec: 'https://h/${p}'}}\n"
    steps = "".join(step.replace("N", str(number)) for number in range(5))
    build = desk.upload(PLAIN.replace("steps: []\n", f'parameters: {{p: "{noise(400_000)}"}}\nsteps:\n{steps}'))
    assert f"and Firestore takes {BEGINS_WITHIN}; move data from the spec into its context" in reason(build)
    [again] = desk.intake.uploaded("specs/hello.yaml", "1")
    assert again == build


def test_whatever_the_store_refuses_is_told() -> None:
    desk = desk_with(Refusing())
    assert reason(desk.upload(PLAIN)) == "the store does not like it; write another spec"
    assert desk.made() == 1


def test_a_reason_without_an_end_is_cut(desk: Desk) -> None:
    keys = "".join(f"k{number}{noise(700)}: 1\n" for number in range(400)).translate({ord(c): "x" for c in ":;!?,."})
    told = reason(desk.upload(PLAIN + keys.replace("x 1\n", ": 1\n")))
    assert REASON_LIMIT < len(told) < REASON_LIMIT + 100
    assert told.endswith("characters more of the same")


def test_parameters_that_every_build_of_a_workflow_would_keep_are_bounded(desk: Desk) -> None:
    desk.put("specs/x.yaml", PLAIN)
    told = reason(desk.publish(spec="gs://goldsmith-test/specs/x.yaml", parameters={"p": "x" * PARAMETERS_LIMIT}))
    assert told == "parameters hold more than 64 KiB; put large data into the context"


def test_a_build_that_was_let_in_has_room_for_all_that_is_said_of_it() -> None:
    """Its plan cannot become shorter; outputs, reason and findings can."""
    steps = tuple(Step(f"s{n}", "run-script", {"script": noise(9_500, n)}, timeout=300.0) for n in range(90))
    begun = values.build(plan=values.plan(steps=steps))
    assert BEGINS_WITHIN - 60_000 < len(build_fields(begun, BEGINS_WITHIN)["document"]) <= BEGINS_WITHIN
    said = tuple(replace(step, output=noise(4096, n)) for n, step in enumerate(begun.steps))
    image = values.image_record(findings=tuple(noise(300, n) for n in range(2000)))
    kept = replace(begun, steps=said, reason=noise(1_000_000), image=image, ledger=(values.ledger_entry(),) * 40)
    assert len(build_fields(kept)["document"]) <= DOCUMENT_LIMIT


def test_a_fact_with_a_reason_too_long_is_recorded_all_the_same() -> None:
    event = values.rejected(reason=noise(2_000_000))
    assert len(event_fields(event)["document"]) <= DOCUMENT_LIMIT


def test_a_report_that_the_store_cannot_take_is_dropped(desk: Desk) -> None:
    """It would be delivered again and again otherwise, and keep the reports that follow it waiting."""
    build = desk.upload(PLAIN)
    store = desk.world.store
    version = store.load(build.id).version
    started = replace(values.machine_started(), build_id=build.id)
    store.save(replace(build, state=State.PROVISIONING, outbox=()), version, started)
    huge = values.reported(build_id=build.id, output=noise(3_000_000))
    with pytest.raises(PoisonMessage, match=f"cannot be recorded: event .* of build {build.id}: its document has"):
        Engine(store, desk.world.bus, desk.world.clock).receive(huge)
