"""The documentation, as the pages of docs/ have it."""
