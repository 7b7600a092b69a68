"""The goldsmith command: its commands and options, its home on this machine, its exit statuses."""
