"""Keys of layers: what changes them, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from provisioner.protocol import Step
from shared.build.plan import CachePlan, Context, Plan
from shared.cache.step_keys import layer_chain
from tests.world.values import plan as a_plan

BASE = {"engine": "chroot"}


def step(name: str, **more: Any) -> Step:
    return Step(name, "run-script", {"script": f"{name}.sh"}, **more)


def a_build(*steps: Step, **more: Any) -> Plan:
    made = replace(a_plan(), steps=steps, context=Context("/context.tar", "c" * 64, 1), cache=CachePlan(True, 60.0))
    return replace(made, **more)


def selected(patterns: Sequence[str]) -> str:
    return ",".join(patterns)


def keys(plan: Plan, base: dict[str, Any] = BASE) -> list[str]:
    return [layer.key for layer in layer_chain(plan, base, selected)]


PLAN = a_build(step("one", reads=("a",)), step("two"), step("three", network=False))


def test_each_step_has_a_key_of_its_own() -> None:
    chain = layer_chain(PLAN, BASE, selected)
    assert [(layer.step, layer.name) for layer in chain] == [(0, "one"), (1, "two"), (2, "three")]
    assert len({layer.key for layer in chain}) == 3
    assert [layer.networked for layer in chain] == [True, True, False]
    assert keys(PLAN) == keys(PLAN)


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        (replace(PLAN, source=replace(PLAN.source, id="other")), 0),
        (replace(PLAN, machine=replace(PLAN.machine, internet=False)), 0),
        (replace(PLAN, context=Context("/context.tar", "d" * 64, 1)), 1),
        (a_build(step("one", reads=("b",)), *PLAN.steps[1:]), 0),
        (a_build(PLAN.steps[0], replace(PLAN.steps[1], inputs={"script": "other"}), PLAN.steps[2]), 1),
        (a_build(*PLAN.steps[:2], step("three")), 2),
        (a_build(*PLAN.steps[:2], step("three", network=False, reads=())), 2),
        (a_build(*PLAN.steps, step("four")), 3),
        (a_build(*(replace(each, timeout=1.0, retries=3, name="x" + each.name) for each in PLAN.steps)), 3),
        (replace(PLAN, build_id="other-000000000000", silence=1.0), 3),
    ],
)
def test_a_change_counts_from_its_step_on(changed: Plan, first: int) -> None:
    before, after = keys(PLAN), keys(changed)
    assert [one == other for one, other in zip(before, after, strict=False)] == [index < first for index in range(3)]


def test_a_way_to_run_steps_is_part_of_all_keys() -> None:
    assert not set(keys(PLAN)) & set(keys(PLAN, {"engine": "vm"}))


def test_steps_that_go_on_from_processes_have_one_layer() -> None:
    chain = layer_chain(a_build(step("one"), step("two", cache=False, network=False), step("three")), BASE, selected)
    assert [(layer.step, layer.networked) for layer in chain] == [(1, True), (2, True)]


def test_a_build_can_be_told_where_to_begin() -> None:
    chain = layer_chain(replace(PLAN, cache=CachePlan(True, 60.0, first=1)), BASE, selected)
    assert [layer.usable for layer in chain] == [True, False, False]


def test_there_are_no_layers_from_the_first_step_with_secrets_on() -> None:
    with_secrets = replace(PLAN.steps[1], secrets={"TOKEN": "env:TOKEN"})
    assert keys(a_build(PLAN.steps[0], with_secrets, PLAN.steps[2])) == keys(PLAN)[:1]
