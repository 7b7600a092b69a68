"""Decide what an event leads to, and save it: the lifecycle, and the only writer of a build."""
