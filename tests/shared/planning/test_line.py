"""Whose turn it is among unfinished builds, and what the others wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.build import Build, LedgerEntry, Outcome, State, Unfinished, unfinished_of
from shared.build.plan import Plan
from shared.planning import line as shared_line
from shared.planning.line import Wait
from tests.world import values

MACHINE = LedgerEntry("machine", "gs-vm", "local")
IMAGE = LedgerEntry("image", "hello-20261120", "local")


def plan(name: str, content: str = "", *, chosen: str = "", rebuild: str = "changed", family: str = "hello") -> Plan:
    image = replace(values.plan().image, name=chosen or f"{name}-20261120", numbered=not chosen, family=family)
    return values.plan(build_id=name, name=name, content_digest=content or name, image=image, rebuild=rebuild)


def queued(name: str, content: str = "", **more: str) -> Build:
    return values.build(id=name, plan=plan(name, content, **more), state=State.QUEUED)


def running(name: str, content: str = "", **more: str) -> Build:
    return replace(queued(name, content, **more), state=State.PROVISIONING, ledger=(MACHINE,))


def cleaning(build: Build, outcome: Outcome, *ledger: LedgerEntry, kept_until: float = 0.0) -> Build:
    return replace(build, state=State.CLEANING, outcome=outcome, ledger=ledger, kept_until=kept_until)


def known(line: list[Build]) -> list[Unfinished]:
    return [unfinished_of(build) for build in line]


def turns(line: list[Build], concurrency: int | None) -> list[str]:
    return [each.id for each in shared_line.turns(known(line), concurrency)]


@pytest.mark.parametrize(
    ("concurrency", "begin"),
    [(None, ["b", "c", "d"]), (1, []), (2, ["b"]), (3, ["b", "c"]), (4, ["b", "c", "d"])],
)
def test_builds_begin_in_the_order_of_the_line(concurrency: int | None, begin: list[str]) -> None:
    line = [running("a"), queued("b"), queued("c"), queued("d")]
    assert turns(line, concurrency) == begin


def test_those_who_came_later_and_are_at_work_count() -> None:
    assert turns([queued("a"), running("b")], 1) == []


@pytest.mark.parametrize(
    ("build", "counts"),
    [
        (running("a"), True),
        (queued("a"), False),
        (cleaning(running("a"), Outcome.FAILED, MACHINE), True),
        (cleaning(running("a"), Outcome.FAILED, LedgerEntry("disk", "gs-boot", "local"), IMAGE), True),
        (cleaning(running("a"), Outcome.FAILED, IMAGE), False),  # of a locked bucket, perhaps: it may take for ever
        (cleaning(running("a"), Outcome.SUCCEEDED), False),
        (replace(running("a"), state=State.FINISHED, outcome=Outcome.FAILED, ledger=()), False),
        (replace(running("a"), state=State.HELD, outcome=Outcome.FAILED, ledger=(replace(MACHINE, keep=True),)), False),
        (replace(running("a"), state=State.HELD, outcome=Outcome.FAILED), False),  # a person's VM may have the disk
    ],
)
def test_a_build_counts_until_its_machines_are_gone(build: Build, counts: bool) -> None:
    assert shared_line.occupies(unfinished_of(build)) is counts


class TestSameContent:
    def test_the_later_one_waits_and_its_place_goes_to_the_next(self) -> None:
        line = [running("a", "x"), queued("b", "x"), queued("c")]
        assert turns(line, None) == ["c"]
        assert turns(line, 2) == ["c"]

    def test_of_two_that_are_queued_the_first_begins(self) -> None:
        assert turns([queued("a", "x"), queued("b", "x")], None) == ["a"]

    def test_always_does_not_wait(self) -> None:
        assert turns([running("a", "x"), queued("b", "x", rebuild="always")], None) == ["b"]

    def test_an_image_of_another_family_is_another(self) -> None:
        assert turns([running("a", "x"), queued("b", "x", family="other")], None) == ["b"]

    @pytest.mark.parametrize("rebuild", ["always", "changed"])
    def test_of_a_chosen_name_there_is_one_at_a_time(self, rebuild: str) -> None:
        line = [running("a", "x", chosen="n", rebuild=rebuild), queued("b", "x", chosen="n", rebuild=rebuild)]
        assert turns(line, None) == []

    @pytest.mark.parametrize(
        ("outcome", "ledger", "kept_until", "begins"),
        [
            (Outcome.SUCCEEDED, (), 0.0, True),
            (Outcome.UNCHANGED, (), 0.0, True),
            (Outcome.SUCCEEDED, (MACHINE,), 0.0, False),
            (Outcome.FAILED, (MACHINE,), 0.0, False),
            (Outcome.FAILED, (IMAGE,), 9.0, False),  # which is taken up once its build is finished
        ],
    )
    def test_it_waits_until_the_first_can_publish_no_more(
        self, outcome: Outcome, ledger: tuple[LedgerEntry, ...], kept_until: float, begins: bool
    ) -> None:
        first = cleaning(running("a", "x"), outcome, *ledger, kept_until=kept_until)
        assert bool(turns([first, queued("b", "x")], None)) is begins

    def test_nobody_waits_for_one_that_only_keeps_a_disk(self) -> None:
        first = replace(running("a", "x"), state=State.HELD, outcome=Outcome.FAILED)
        assert turns([first, queued("b", "x")], 1) == ["b"]

    @pytest.mark.parametrize("left", [IMAGE, LedgerEntry("object", "gs://elsewhere/.a.x", "p")])
    def test_those_who_wait_for_a_clean_up_that_cannot_end_hold_no_place(self, left: LedgerEntry) -> None:
        first = cleaning(running("a", "x"), Outcome.CANCELLED, left)
        waiting = [queued(name, "x") for name in ("b", "b2", "b3")]
        assert turns([first, *waiting, queued("c"), queued("d")], 1) == ["c"]
        assert turns([first, *waiting, queued("c"), queued("d")], 3) == ["c", "d"]

    def test_no_two_wait_for_each_other(self) -> None:
        line = [queued("a", "x"), queued("b", "x"), queued("c", "x")]
        assert shared_line.makers(known(line)) == {"b": "a", "c": "a"}

    def test_a_long_line_is_looked_at_in_one_pass(self) -> None:
        looked = 0

        class Counted(list[Unfinished]):
            def __iter__(self) -> Iterator[Unfinished]:
                nonlocal looked
                for each in super().__iter__():
                    looked += 1
                    yield each

        line = Counted(known([running("m"), *(queued(f"m{number % 50}", f"{number}") for number in range(1000))]))
        shared_line.turns(line, 1)
        shared_line.waits(line)
        assert looked <= 10 * len(line)


@pytest.mark.parametrize(
    ("line", "wait", "words"),
    [
        ([queued("me")], Wait(1, 0), "place 1 in the queue, 0 running"),
        ([running("a"), queued("b"), queued("me"), queued("c")], Wait(2, 1), "place 2 in the queue, 1 running"),
        (
            [running("a", "x"), queued("b", "x"), queued("me")],
            Wait(1, 1),
            "place 1 in the queue, 1 running",
        ),
        ([running("a", "me"), queued("me")], Wait(1, 1, "a"), "waits for build a, which makes this image already"),
    ],
)
def test_what_a_build_waits_for_is_told(line: list[Build], wait: Wait, words: str) -> None:
    mine = next(build for build in line if build.id == "me")
    found = shared_line.waits(known(line))[mine.id]
    assert (found, str(found)) == (wait, words)


def test_one_that_waits_for_its_family_is_told_so_and_holds_no_place() -> None:
    line = [running("a", family="f"), queued("b", family="f"), queued("c", family="f"), queued("d", family="g")]
    found = shared_line.waits(known(line), 1)
    assert found == {"b": Wait(1, 1, of_family=1), "c": Wait(1, 1, of_family=2), "d": Wait(1, 1)}
    assert str(found["c"]) == "waits for its family, of which 2 builds are before it, 1 running"
    assert shared_line.waits(known(line), 2) == {"b": Wait(1, 1), "c": Wait(2, 1, of_family=2), "d": Wait(2, 1)}
    assert {wait.of_family for wait in shared_line.waits(known(line)).values()} == {0}


def of_family(line: list[Build], most: int) -> list[str]:
    return [each.id for each in shared_line.turns(known(line), None, most)]


def test_builds_of_one_family_wait_for_each_other_and_hold_no_place() -> None:
    line = [running("a", family="f"), queued("b", family="f"), queued("c", family="g"), queued("d", family="g")]
    assert of_family(line, 1) == ["c"]
    assert of_family(line, 2) == ["b", "c", "d"]
    assert [each.id for each in shared_line.turns(known(line), 2, 1)] == ["c"]
    done = [cleaning(running("a", family="f"), Outcome.SUCCEEDED), *line[1:]]
    assert of_family(done, 1) == ["b", "c"]


def test_one_that_is_behind_begins_in_no_line_that_an_earlier_one_is_in() -> None:
    """Whatever the earlier one waits for: so two processes with two lines never begin both."""
    line = [running("a", "same", family="f"), queued("b", "same", family="f"), queued("c", family="f")]
    assert of_family(line, 2) == []
    assert of_family([cleaning(line[0], Outcome.SUCCEEDED), *line[1:]], 1) == ["b"]


def test_newer_requests_of_one_spec_supersede_queued_ones_that_are_no_stronger() -> None:
    def asked(name: str, rebuild: str, state: State = State.QUEUED) -> Unfinished:
        return replace(unfinished_of(queued(name)), spec="s", rebuild=rebuild, state=state)

    line = [asked("a", "changed"), asked("b", "always"), asked("c", "changed"), asked("d", "changed")]
    assert shared_line.superseded(line) == {"a": "d", "c": "d"}
    assert shared_line.superseded([*line, asked("e", "always", State.PREPARING)]) == dict.fromkeys("abcd", "e")
    other = replace(asked("f", "always"), spec="")
    assert shared_line.superseded([other, replace(other, id="g")]) == {}
