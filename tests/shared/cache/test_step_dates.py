"""The keys of layers, as far as the date that steps see is part of them."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import Step
from shared.cache.step_keys import layer_chain
from tests.world.values import plan


def test_a_layer_of_another_date_is_another_one() -> None:
    steps = (Step("one", "run-script", {"script": "one.sh"}), Step("two", "run-script", {"script": "two.sh"}))
    asked = replace(plan(), steps=steps)
    keys = [
        [layer.key for layer in layer_chain(replace(asked, source_date=date), {}, lambda patterns: "")]
        for date in (None, 0, 1_700_000_000, 1_700_000_000)
    ]
    assert [len(each) for each in keys] == [2] * 4
    assert len({key for each in keys for key in each}) == 6
    assert keys[2] == keys[3]
