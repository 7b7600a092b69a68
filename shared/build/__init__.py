"""A build as values: plan, state, events, orders; its id, digests and names; limits; documents that cannot be read."""
