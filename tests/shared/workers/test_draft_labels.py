"""An image that is not published yet says by a label whether it is still to be verified."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import Step
from tests.world import values
from tests.world.given_orders import IMAGE, publish, whole_plan, world_at


@pytest.mark.parametrize(("steps", "told"), [((), {"goldsmith-verify": "pending"}), (None, {})])
def test_an_image_that_is_still_to_be_verified_says_so_until_it_is_published(
    steps: tuple[Step, ...] | None, told: dict[str, str]
) -> None:
    world = world_at("label_image", replace(whole_plan(), verify_steps=steps))
    draft = world.compute.all_images[IMAGE]
    assert (draft.family, dict(draft.labels)) == (None, {"goldsmith-build": values.BUILD_ID, **told})
    assert "goldsmith-verify" not in publish(world).compute.all_images[IMAGE].labels
