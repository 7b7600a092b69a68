"""Files of a build: how each is written once, and those of its image that a VM writes."""
