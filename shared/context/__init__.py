"""The files that a spec's steps see, packed into one archive."""
