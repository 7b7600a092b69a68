"""Read the `disk` of a spec: a list in the words of diskimage-builder's block devices, or `filesystem`."""
