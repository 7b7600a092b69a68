"""Compute Engine: the adapter of the port Compute."""
