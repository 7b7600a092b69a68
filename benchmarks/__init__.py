"""Measurements against peers, run as `python -m benchmarks.NAME`; each prints the table of docs/performance.md."""
