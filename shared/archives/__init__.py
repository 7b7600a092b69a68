"""Compressed streams and tar archives, read and written in pieces."""
