"""The spec: read it, check it, and say what is wrong with it at its line."""
