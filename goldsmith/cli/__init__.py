"""The commands, their arguments and their help: one file a group, and app.py, which has those outside of groups."""
