"""How builds change over time: their phases, outcomes, images and cost."""
