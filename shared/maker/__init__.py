"""Runs on a build VM of Google Cloud: makes a root from nothing, as one machine does, and writes it to a disk."""
