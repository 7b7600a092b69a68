"""Compute Engine's REST interface: calls, their checks by Google's message classes, lists, operations, refusals."""
